// Netty's own client, with its own handler of compression and no word of ours about it.
// Run by t/real_clients.rs: java -cp ... NettyClient.java URL WORDS...
// It sends each of WORDS, as often as they say (COUNT*TEXT), and expects it back; then it says so,
// hears one message, prints its length and closes.

import io.netty.bootstrap.Bootstrap;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioSocketChannel;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.DefaultHttpHeaders;
import io.netty.handler.codec.http.HttpClientCodec;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.websocketx.CloseWebSocketFrame;
import io.netty.handler.codec.http.websocketx.TextWebSocketFrame;
import io.netty.handler.codec.http.websocketx.WebSocketClientHandshaker;
import io.netty.handler.codec.http.websocketx.WebSocketClientHandshakerFactory;
import io.netty.handler.codec.http.websocketx.WebSocketFrameAggregator;
import io.netty.handler.codec.http.websocketx.WebSocketVersion;
import io.netty.handler.codec.http.websocketx.extensions.compression.WebSocketClientCompressionHandler;
import java.net.URI;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

public class NettyClient {
    static final int MOST = 1 << 20;

    public static void main(String[] arguments) {
        try {
            talk(arguments);
            System.exit(0);
        } catch (Exception failure) {
            failure.printStackTrace();
            System.exit(1);
        }
    }

    static void talk(String[] arguments) throws Exception {
        URI uri = new URI(arguments[0]);
        WebSocketClientHandshaker handshaker = WebSocketClientHandshakerFactory.newHandshaker(
            uri, WebSocketVersion.V13, null, true, new DefaultHttpHeaders(), MOST);
        Listener listener = new Listener(handshaker);
        NioEventLoopGroup group = new NioEventLoopGroup(1);
        Channel channel = connect(group, uri, listener);
        listener.await("open");
        for (int i = 1; i < arguments.length; i++) {
            String[] parts = arguments[i].split("\\*", 2);
            String text = parts[1].repeat(Integer.parseInt(parts[0]));
            channel.writeAndFlush(new TextWebSocketFrame(text));
            listener.await(text);
        }
        System.out.println("echoed");
        System.out.println("heard " + listener.next().length());
        channel.writeAndFlush(new CloseWebSocketFrame(1000, ""));
        listener.await("close 1000");
        channel.closeFuture().await(30, TimeUnit.SECONDS);
    }

    static Channel connect(NioEventLoopGroup group, URI uri, Listener listener) throws Exception {
        Bootstrap bootstrap = new Bootstrap().group(group).channel(NioSocketChannel.class);
        bootstrap.handler(new ChannelInitializer<Channel>() {
            @Override
            protected void initChannel(Channel channel) {
                channel.pipeline().addLast(
                    new HttpClientCodec(),
                    new HttpObjectAggregator(MOST),
                    WebSocketClientCompressionHandler.INSTANCE,
                    listener);
            }
        });
        return bootstrap.connect(uri.getHost(), uri.getPort()).sync().channel();
    }

    /** What the server says, in order; an exception ends the program. */
    static class Listener extends SimpleChannelInboundHandler<Object> {
        private final WebSocketClientHandshaker handshaker;
        private final LinkedBlockingQueue<String> heard = new LinkedBlockingQueue<>();

        Listener(WebSocketClientHandshaker handshaker) {
            this.handshaker = handshaker;
        }

        String next() throws Exception {
            String said = heard.poll(60, TimeUnit.SECONDS);
            if (said == null) {
                throw new Exception("nothing is heard");
            }
            return said;
        }

        void await(String expected) throws Exception {
            String said = next();
            if (!said.equals(expected)) {
                throw new Exception("heard: " + said.substring(0, Math.min(200, said.length())));
            }
        }

        @Override
        public void channelActive(ChannelHandlerContext context) {
            handshaker.handshake(context.channel());
        }

        @Override
        protected void channelRead0(ChannelHandlerContext context, Object message) {
            if (message instanceof FullHttpResponse) {
                FullHttpResponse response = (FullHttpResponse) message;
                System.out.println("open " + response.headers().get("Sec-WebSocket-Extensions"));
                handshaker.finishHandshake(context.channel(), response);
                context.pipeline().addBefore(
                    context.name(), "whole", new WebSocketFrameAggregator(MOST));
                heard.add("open");
            } else if (message instanceof TextWebSocketFrame) {
                heard.add(((TextWebSocketFrame) message).text());
            } else if (message instanceof CloseWebSocketFrame) {
                heard.add("close " + ((CloseWebSocketFrame) message).statusCode());
            }
        }

        @Override
        public void exceptionCaught(ChannelHandlerContext context, Throwable cause) {
            cause.printStackTrace();
            System.exit(1);
        }
    }
}
