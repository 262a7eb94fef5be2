"""aiohttp's client against the service: `aiohttp_client.py URL`."""

import asyncio
import sys

import aiohttp

URL = sys.argv[1]
CONNECTIONS = 20


async def echo(client, number):
    text = f"text {number} " + "t" * number * 50
    async with client.post(f"{URL}/echo", data=text) as answer:
        assert answer.status == 200
        assert await answer.text() == f"Echo: {text}", number


async def pieces():
    for number in range(100):
        yield bytes([ord("a") + number % 26]) * 10_000
        await asyncio.sleep(0)


async def main():
    connections = 0

    async def count(_client, _context, _parameters):
        nonlocal connections
        connections += 1

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(count)
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trace_configs=[trace]) as client:
        await asyncio.gather(*(echo(client, number) for number in range(400)))
        assert connections <= CONNECTIONS, f"{connections} connections: keep-alive did not hold"

        async with client.post(f"{URL}/echo", data=pieces()) as answer:
            expected = b"Echo: " + b"".join([piece async for piece in pieces()])
            assert await answer.read() == expected

        async with client.post(f"{URL}/echo", data=b"e" * 2_000_000, expect100=True) as answer:
            assert await answer.read() == b"Echo: " + b"e" * 2_000_000

        # Left in the middle: the next request gets a connection of its own.
        async with client.post(f"{URL}/echo", data=b"e" * 5_000_000) as answer:
            await answer.content.readexactly(100)
        async with client.get(f"{URL}/health") as answer:
            assert (await answer.json())["status"] == "healthy"


asyncio.run(main())
