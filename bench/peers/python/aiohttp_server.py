"""The same answers from aiohttp, on asyncio's own loop or, with the word `uvloop` before the port, on uvloop.

aiohttp's keep-alive deadline is far away, its access log is off. Its Server header can only be removed by a hook in every
answer, so it stays.
"""

import asyncio
import sys

from aiohttp import web

import answers

KEEP_ALIVE_S = 86_400


async def hello(request):
    return web.Response(text=answers.HELLO)


async def json(request):
    return web.Response(body=answers.message().encode(), content_type="application/json")


async def echo(request):
    return web.Response(body=await request.read())


async def sleep(request):
    await asyncio.sleep(answers.SLEEP_S)
    return web.Response(text=answers.SLEPT)


async def pending(request):
    await answers.hold()


async def held(request):
    return web.Response(text=answers.held())


async def sse(request):
    response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
    await response.prepare(request)
    await response.write(answers.EVENT.encode())
    await asyncio.get_running_loop().create_future()


async def mixed(request):
    return web.Response(text=answers.mixed())


async def main():
    app = web.Application()
    app.router.add_get("/", hello)
    app.router.add_get("/json", json)
    app.router.add_post("/echo", echo)
    for handler in (sleep, pending, held, sse, mixed):
        app.router.add_get(f"/{handler.__name__}", handler)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEEP_ALIVE_S)
    await runner.setup()
    listener = answers.listener()
    await web.SockSite(runner, listener, backlog=answers.BACKLOG).start()
    answers.announce(listener.getsockname()[1])
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    on_uvloop = sys.argv[1:2] == ["uvloop"]
    if sys.argv[-1] == "--version":
        print(answers.versions("aiohttp", *(["uvloop"] if on_uvloop else [])))
    elif on_uvloop:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
