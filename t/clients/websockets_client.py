"""The client of Python's websockets, which compresses by default. Run by t/real_clients.rs:
websockets_client.py URL WORDS...

It sends each of WORDS, as often as they say (COUNT*TEXT), and expects it back; then it says so,
hears one message, prints its length and closes.
"""

import asyncio
import sys

from websockets.asyncio.client import connect


async def talk(url, words):
    async with connect(url, proxy=None, open_timeout=30, close_timeout=30) as socket:
        print("open", socket.response.headers.get("Sec-WebSocket-Extensions"), flush=True)
        for word in words:
            count, text = word.split("*", 1)
            message = text * int(count)
            await socket.send(message)
            assert await asyncio.wait_for(socket.recv(), 60) == message
        print("echoed", flush=True)
        print("heard", len(await asyncio.wait_for(socket.recv(), 60)), flush=True)
        await socket.close(1000)
    assert socket.close_code == 1000, socket.close_code


asyncio.run(talk(sys.argv[1], sys.argv[2:]))
