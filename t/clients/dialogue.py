"""What the Python clients say. Each is run by t/real_clients.rs: CLIENT URL WORDS...

It sends each of WORDS, as often as they say (COUNT*TEXT), and expects it back; then it says so,
hears one message, prints its length and closes.
"""

import asyncio
import sys

URL, *WORDS = sys.argv[1:]


async def hear(receive):
    return await asyncio.wait_for(receive(), 60)


async def talk(extensions, send, receive):
    print("open", extensions, flush=True)
    for word in WORDS:
        count, text = word.split("*", 1)
        message = text * int(count)
        await send(message)
        assert await hear(receive) == message
    print("echoed", flush=True)
    print("heard", len(await hear(receive)), flush=True)
