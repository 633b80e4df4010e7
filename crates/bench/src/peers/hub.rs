//! Hubs made of Rust's WebSocket crates: tokio with one thread, a task per client, one broadcast
//! channel fed by Redis. Each runs in its own process of this program.
use std::io;
use std::net::SocketAddrV4;

use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket, WebSocketError, WebSocketWrite};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{self, Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Utf8Bytes};

use super::{Lab, Server};
use crate::{handshake, resp};

/// Starts the hub with this name.
pub fn start(lab: &Lab, name: &str) -> Result<Server> {
    lab.start_ourselves(name, ["hub", name])
}

/// How many messages a task may be behind.
const BACKLOG: usize = 1024;

/// Serves until it is killed.
///
/// # Errors
/// Redis is not available, or there is no hub with this name.
pub fn serve(name: &str, listen: SocketAddrV4, redis: SocketAddrV4, channel: &str) -> Result<()> {
    ensure!(
        ["tungstenite", "fastwebsockets"].contains(&name),
        "no hub {name}"
    );
    let fast = name == "fastwebsockets";
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let messages = broadcast::channel(BACKLOG).0;
        let mut tasks = JoinSet::new();
        tasks.spawn(listen_to_redis(redis, channel.to_owned(), messages.clone()));
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let messages = messages.clone();
            tokio::spawn(async move {
                // A client that leaves ends its task. Nobody needs to know the result.
                if let Ok(Some(client)) = upgrade(stream, &messages).await {
                    let _ = if fast {
                        client
                            .by_fastwebsockets()
                            .await
                            .map_err(anyhow::Error::from)
                    } else {
                        client.by_tungstenite().await
                    };
                }
            });
            if let Some(ended) = tasks.try_join_next() {
                return ended.context("the link to Redis")?;
            }
        }
    })
}

async fn listen_to_redis(
    redis: SocketAddrV4,
    channel: String,
    messages: Sender<Utf8Bytes>,
) -> Result<()> {
    let mut link = TcpStream::connect(redis).await?;
    let mut command = Vec::new();
    resp::push_command(&mut command, &[b"SUBSCRIBE", channel.as_bytes()]);
    link.write_all(&command).await?;
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    loop {
        buffer.reserve(16 * 1024);
        ensure!(link.read_buf(&mut buffer).await? > 0, "Redis has gone");
        while let Some(push) = resp::next_push(&buffer) {
            let push_bytes: Bytes = buffer.split_to(push.end).freeze();
            if let Some(payload) = push.payload {
                // An error means that nobody is subscribed.
                let _ = messages.send(push_bytes.slice(payload).try_into()?);
            }
        }
    }
}

/// A client that has received its 101.
struct Client {
    stream: TcpStream,
    /// `None`: the client wants its own messages back.
    messages: Option<Receiver<Utf8Bytes>>,
}

/// Answers the handshake. The crates' own handshakes would differ in more than WebSocket.
async fn upgrade(mut stream: TcpStream, all: &Sender<Utf8Bytes>) -> io::Result<Option<Client>> {
    stream.set_nodelay(true)?;
    let mut request = Vec::with_capacity(1024);
    while !handshake::is_whole(&request) {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(None);
        }
    }
    let messages = (!request.starts_with(b"GET /echo ")).then(|| all.subscribe());
    let mut answer = Vec::with_capacity(256);
    if handshake::answer(&request, &mut answer).is_none() {
        return Ok(None);
    }
    stream.write_all(&answer).await?;
    Ok(Some(Client { stream, messages }))
}

impl Client {
    async fn by_tungstenite(self) -> Result<()> {
        let role = protocol::Role::Server;
        // tungstenite clears the whole read buffer, 128 KiB by default, each time it looks for
        // input.
        let config = WebSocketConfig::default().read_buffer_size(4096);
        let mut socket = WebSocketStream::from_raw_socket(self.stream, role, Some(config)).await;
        let Some(mut messages) = self.messages else {
            while let Some(message) = socket.next().await.transpose()? {
                if message.is_text() {
                    socket.send(message).await?;
                }
            }
            return Ok(());
        };
        loop {
            tokio::select! {
                message = messages.recv() => {
                    socket.feed(Message::Text(message?)).await?;
                    while let Ok(message) = messages.try_recv() {
                        socket.feed(Message::Text(message)).await?;
                    }
                    socket.flush().await?;
                }
                heard = socket.next() => match heard {
                    Some(Ok(_)) => {}
                    Some(Err(tungstenite::Error::ConnectionClosed)) | None => return Ok(()),
                    Some(Err(error)) => return Err(error.into()),
                },
            }
        }
    }

    async fn by_fastwebsockets(self) -> Result<(), WebSocketError> {
        let socket = WebSocket::after_handshake(self.stream, Role::Server);
        let Some(mut messages) = self.messages else {
            return echo_by_fastwebsockets(socket).await;
        };
        let (mut reader, mut writer) = socket.split(tokio::io::split);
        // The load sends no Pings.
        let mut answer = |_| async { Ok::<_, io::Error>(()) };
        loop {
            tokio::select! {
                message = messages.recv() => {
                    let Ok(message) = message else { return Ok(()) };
                    send_by_fastwebsockets(&mut writer, &message).await?;
                    while let Ok(message) = messages.try_recv() {
                        send_by_fastwebsockets(&mut writer, &message).await?;
                    }
                }
                heard = reader.read_frame(&mut answer) => {
                    if heard?.opcode == OpCode::Close {
                        return Ok(());
                    }
                }
            }
        }
    }
}

async fn send_by_fastwebsockets<S: tokio::io::AsyncWrite + Unpin>(
    writer: &mut WebSocketWrite<S>,
    message: &Utf8Bytes,
) -> Result<(), WebSocketError> {
    writer
        .write_frame(Frame::text(Payload::Borrowed(message.as_bytes())))
        .await
}

async fn echo_by_fastwebsockets(mut socket: WebSocket<TcpStream>) -> Result<(), WebSocketError> {
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            // The received frame itself would be sent with its masking key.
            OpCode::Text => socket.write_frame(Frame::text(frame.payload)).await?,
            _ => {}
        }
    }
}
