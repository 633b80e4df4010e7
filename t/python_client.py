"""Dialogues of Python's websockets with the module: see python_client.rs.

python_client.py DIALOGUE BASE-URL REDIS-PORT CERTIFICATE
"""

import asyncio
import ssl
import sys

import websockets
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


def open_socket(path, **options):
    tls = ssl.create_default_context(cafile=CERTIFICATE) if BASE.startswith("wss:") else None
    return connect(BASE + path, ssl=tls, proxy=None, open_timeout=30, close_timeout=30, **options)


async def publish(channel, message):
    """By inline command: names and messages here have no blanks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", REDIS_PORT)
    writer.write(f"PUBLISH {channel} {message}\r\n".encode())
    receivers = await reader.readline()
    writer.close()
    return int(receivers[1:])


async def hear(socket):
    return await asyncio.wait_for(socket.recv(), 30)


async def what_is_published_after_open_is_heard():
    for i in range(20):
        async with open_socket(f"/ws?channel=py-{i}") as socket:
            assert await publish(f"py-{i}", f"hello-{i}") == 1
            assert await hear(socket) == f"hello-{i}"


async def text_and_binary_come_back():
    async with open_socket("/echo") as socket:
        for message in ["", "hello", "é€\U0010ffff", b"", b"\x00\xff", b"x" * 65536, "é" * 32768]:
            await socket.send(message)
            assert await hear(socket) == message


async def fragments_come_back_as_one_message():
    async with open_socket("/echo") as socket:
        await socket.send(["frag", "ments", "", "!"])
        assert await hear(socket) == "fragments!"
        await socket.send([b"\x00", b"\xff"])
        assert await hear(socket) == b"\x00\xff"


def extensions(socket):
    return socket.response.headers.get("Sec-WebSocket-Extensions")


async def compressed_messages_come_back():
    async with open_socket("/echo") as socket:
        assert extensions(socket) is None
    async with open_socket("/packed") as socket:
        assert extensions(socket) == "permessage-deflate", extensions(socket)
        for message in ["", "x", "é" * 5000, "x" * 60000, bytes(range(256)) * 200, b"\x00" * 60000]:
            await socket.send(message)
            assert await hear(socket) == message
        await socket.send(["frag" * 100, "ments" * 100])
        assert await hear(socket) == "frag" * 100 + "ments" * 100
        await asyncio.wait_for(await socket.ping(), 30)


async def compressed_messages_are_heard_by_all():
    async with open_socket("/packed") as packed, open_socket("/packed", compression=None) as plain:
        assert extensions(packed) and extensions(plain) is None
        for message in ["short", "long" * 2000]:
            await publish("packed", message)
            assert await hear(packed) == message
            assert await hear(plain) == message


async def a_context_is_taken_over_within_its_limit():
    async with open_socket("/taken") as socket:
        assert extensions(socket).endswith("client_max_window_bits=12"), extensions(socket)
        for i in range(50):
            message = "the same words again and again " * 20 + str(i)
            await socket.send(message)
            assert await hear(socket) == message


async def a_bomb_is_told():
    async with open_socket("/packed") as socket:
        await socket.send("x" * 1000000)
        try:
            await hear(socket)
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1009, closed
        else:
            raise AssertionError("it was taken")


async def pings_are_answered():
    async with open_socket("/ws?channel=foo") as socket:
        for _ in range(10):
            await asyncio.wait_for(await socket.ping(), 30)


async def codes_and_reasons_are_told():
    for code, reason in [(1000, ""), (1001, "bye"), (3000, "é"), (4999, "r" * 123)]:
        socket = await open_socket("/echo")
        await socket.close(code, reason)
        assert socket.close_code == code, socket.close_code


async def too_big_a_message_is_told():
    socket = await open_socket("/echo")
    try:
        await socket.send(b"x" * (10 << 20))
        await hear(socket)
        raise AssertionError("no Close")
    except ConnectionClosed as closed:
        assert closed.rcvd is not None and closed.rcvd.code == 1009, closed


async def a_subprotocol_is_chosen():
    async with open_socket("/echo", subprotocols=["other", "chat"]) as socket:
        assert socket.subprotocol == "chat"


async def refusals_have_their_status():
    for path, origin, status in [("/ws", None, 400), ("/nowhere", None, 404), ("/echo", "http://x", 403)]:
        try:
            async with open_socket(path, origin=origin):
                raise AssertionError(f"{path} is open")
        except InvalidStatus as refusal:
            assert refusal.response.status_code == status, (path, refusal)


async def many_talk_in_a_room():
    sockets = [await open_socket("/room") for _ in range(10)]
    for i, socket in enumerate(sockets):
        await socket.send(f"from {i}")
    heard = [[await hear(socket) for _ in sockets] for socket in sockets]
    assert all(one == heard[0] for one in heard), "one order for all"
    assert sorted(heard[0]) == sorted(f"from {i}" for i in range(10))
    for socket in sockets:
        await socket.close()


if __name__ == "__main__":
    DIALOGUE, BASE, PORT, CERTIFICATE = sys.argv[1:]
    REDIS_PORT = int(PORT)
    assert tuple(map(int, websockets.__version__.split(".")[:2])) >= (15, 0), websockets.__version__
    asyncio.run(globals()[DIALOGUE]())
