"""The same answers from Granian's own interface, RSGI: one worker, one runtime thread, uvloop.

It is a process that watches and a worker that serves; the worker dies with the watcher. Idle connections would be closed after
the time for a head, so that is far away, and as many requests may be in flight as connections may wait.
"""

import asyncio
import ctypes
import signal
import sys

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings

import answers

HEAD_TIMEOUT_MS = 86_400_000
PR_SET_PDEATHSIG = 1

TEXT = [("content-type", answers.TEXT)]
JSON = [("content-type", "application/json")]
BYTES = [("content-type", "application/octet-stream")]
EVENTS = [("content-type", "text/event-stream"), ("cache-control", "no-cache")]


async def hello(protocol):
    protocol.response_str(200, TEXT, answers.HELLO)


async def json(protocol):
    protocol.response_str(200, JSON, answers.message())


async def echo(protocol):
    protocol.response_bytes(200, BYTES, await protocol())


async def sleep(protocol):
    await asyncio.sleep(answers.SLEEP_S)
    protocol.response_str(200, TEXT, answers.SLEPT)


async def pending(protocol):
    await answers.hold()


async def held(protocol):
    protocol.response_str(200, TEXT, answers.held())


async def sse(protocol):
    stream = protocol.response_stream(200, EVENTS)
    await stream.send_str(answers.EVENT)
    await asyncio.get_running_loop().create_future()


async def mixed(protocol):
    protocol.response_str(200, TEXT, answers.mixed())


async def missing(protocol):
    protocol.response_empty(404, [])


ROUTES = {"/": hello} | {f"/{route.__name__}": route for route in (json, echo, sleep, pending, held, sse, mixed)}


class App:
    def __rsgi_init__(self, loop):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    async def __rsgi__(self, scope, protocol):
        await ROUTES.get(scope.path, missing)(protocol)


app = App()

if __name__ == "__main__":
    if sys.argv[-1] == "--version":
        print(answers.versions("granian", "uvloop"))
    else:
        Granian(
            "granian_server:app",
            address="127.0.0.1",
            port=int(sys.argv[-1]),
            interface=Interfaces.RSGI,
            workers=1,
            runtime_threads=1,
            loop=Loops.uvloop,
            http=HTTPModes.http1,
            websockets=False,
            backlog=answers.BACKLOG,
            backpressure=answers.BACKLOG,
            http1_settings=HTTP1Settings(header_read_timeout=HEAD_TIMEOUT_MS),
            log_enabled=False,
        ).serve()
