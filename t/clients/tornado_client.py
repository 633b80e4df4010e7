"""Tornado's own client, asked to compress. It drops the answer's parameters that have no value, and so
keeps its context whatever they say. Run by t/real_clients.rs: tornado_client.py URL WORDS...

It sends each of WORDS, as often as they say (COUNT*TEXT), and expects it back; then it says so,
hears one message, prints its length and closes.
"""

import asyncio
import sys

from tornado.websocket import websocket_connect


async def talk(url, words):
    socket = await websocket_connect(url, compression_options={}, connect_timeout=30)
    print("open", socket.headers.get("Sec-WebSocket-Extensions"), flush=True)
    for word in words:
        count, text = word.split("*", 1)
        message = text * int(count)
        await socket.write_message(message)
        assert await asyncio.wait_for(socket.read_message(), 60) == message
    print("echoed", flush=True)
    print("heard", len(await asyncio.wait_for(socket.read_message(), 60)), flush=True)
    socket.close(1000)
    assert await asyncio.wait_for(socket.read_message(), 60) is None
    assert socket.close_code == 1000, socket.close_code


asyncio.run(talk(sys.argv[1], sys.argv[2:]))
