"""What the routes answer; the Python servers share it, as the Rust ones share `bench_servers::answers`."""

import asyncio
import json
import os
import socket
import sys
import time
from importlib.metadata import version

HELLO = "hello"
SLEPT = "slept"
EVENT = "data: hello\n\n"
TEXT = "text/plain; charset=utf-8"
SLEEP_S = 0.001
# More connections than this may not wait to be accepted; the kernel takes somaxconn if that is less.
BACKLOG = 65_535

# One of this number of requests of /mixed computes, for this time, with this number of steps between two looks at the clock.
COMPUTING_EVERY = 100
COMPUTING_NS = 10_000_000
STEPS = 100

# Without the spaces that json writes by default: every stack answers the same bytes.
_encode = json.JSONEncoder(separators=(",", ":")).encode

_held = []
_mixed = 0


def message():
    """The body of /json, serialised anew for each request."""
    return _encode({"message": HELLO, "number": 42})


async def hold():
    """A handler of /pending has begun; it never ends."""
    future = asyncio.get_running_loop().create_future()
    # Nobody else may know the future, and a task that nobody can wake is garbage.
    _held.append(future)
    await future


def held():
    """The body of /held."""
    return str(len(_held))


def mixed():
    """The body of /mixed: at once, but every hundredth time after 10 ms of computing on the thread that serves."""
    global _mixed
    _mixed += 1
    if _mixed % COMPUTING_EVERY == 0:
        _compute()
    return HELLO


def _compute():
    end_ns = time.thread_time_ns() + COMPUTING_NS
    state = 1
    while time.thread_time_ns() < end_ns:
        for _ in range(STEPS):
            state = (state * 6_364_136_223_846_793_005 + 1) & 0xFFFF_FFFF_FFFF_FFFF


def listener():
    """A listener on a port of loopback that the system chooses, whose connections inherit TCP_NODELAY from it."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.bind(("127.0.0.1", 0))
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.listen(BACKLOG)
    return found


def widen():
    """Makes a listener that a framework opened and keeps to itself like those of `listener`; returns its port."""
    for name in os.listdir("/proc/self/fd"):
        try:
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with found:
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                found.listen(BACKLOG)
                return found.getsockname()[1]
    raise RuntimeError("nobody listens")


def announce(port):
    """Writes the address as the first line of standard output."""
    print(f"127.0.0.1:{port}", flush=True)


def versions(*packages):
    """The answer to --version."""
    names = [f"{package} {version(package)}" for package in packages]
    return ", ".join([*names, f"Python {sys.version.split()[0]}"])
