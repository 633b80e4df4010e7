"""The client of Python's websockets, which compresses by default. dialogue.py tells what it says."""

import asyncio

from dialogue import URL, talk
from websockets.asyncio.client import connect


async def main():
    async with connect(URL, proxy=None, open_timeout=30, close_timeout=30) as socket:
        extensions = socket.response.headers.get("Sec-WebSocket-Extensions")
        await talk(extensions, socket.send, socket.recv)
        await socket.close(1000)
    assert socket.close_code == 1000, socket.close_code


asyncio.run(main())
