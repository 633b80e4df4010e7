"""Tornado's own client, asked to compress. It drops the answer's parameters that have no value, and so
keeps its context whatever they say. dialogue.py tells what it says.
"""

import asyncio

from dialogue import URL, hear, talk
from tornado.websocket import websocket_connect


async def main():
    socket = await websocket_connect(URL, compression_options={}, connect_timeout=30)
    extensions = socket.headers.get("Sec-WebSocket-Extensions")
    await talk(extensions, socket.write_message, socket.read_message)
    socket.close(1000)
    assert await hear(socket.read_message) is None
    assert socket.close_code == 1000, socket.close_code


asyncio.run(main())
