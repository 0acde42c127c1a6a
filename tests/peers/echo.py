"""Echoes every message, whole: websockets on asyncio, ready for permessage-deflate."""

import asyncio
import sys

import websockets
from websockets.asyncio.server import serve


async def echo(connection):
    try:
        async for message in connection:
            await connection.send(message)
    except websockets.ConnectionClosed:
        pass


async def main():
    port = int(sys.argv[1])
    async with serve(echo, "127.0.0.1", port, max_size=None, compression="deflate", ping_interval=None) as server:
        await server.serve_forever()


asyncio.run(main())
