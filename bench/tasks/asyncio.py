#!/usr/bin/env python3
"""The scenarios of src/scenarios.rs in Python: asyncio.TaskGroup, on asyncio's own loop and, if it can be imported, on uvloop.

Prints JSON with the keys of the Rust program beside it. The first argument is the number of rounds, 10 if there is none.
"""

import json
import os
import sys
import time

# This file has the name of the module that it measures, which is not to be found where it is.
sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]

import asyncio  # noqa: E402

TASKS = 10_000
SLEEP = 0.001
YIELDING = 100
YIELDS = 1_000
DELAYED = 200


async def sleep_in_group():
    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(asyncio.sleep(SLEEP))


async def yield_often():
    for _ in range(YIELDS):
        await asyncio.sleep(0)


async def yield_in_group():
    async with asyncio.TaskGroup() as group:
        for _ in range(YIELDING):
            group.create_task(yield_often())


async def delay_in_group():
    stop = False

    async def yield_until():
        while not stop:
            await asyncio.sleep(0)

    async def first_turn(spawned):
        return time.perf_counter() - spawned

    delays = []
    async with asyncio.TaskGroup() as group:
        for _ in range(YIELDING):
            group.create_task(yield_until())
        for _ in range(DELAYED):
            delays.append(await group.create_task(first_turn(time.perf_counter())))
        stop = True
    return delays


def timed(runner, scenario):
    started = time.perf_counter()
    runner.run(scenario())
    return time.perf_counter() - started


def figures(samples, unit):
    samples = sorted(samples)
    return {
        name: round(samples[int((len(samples) - 1) * at)] * unit, 3)
        for name, at in (("p10", 0.1), ("p50", 0.5), ("p99", 0.99))
    }


def measure(new_loop, rounds):
    sleeps, switches, delays = [], [], []
    with asyncio.Runner(loop_factory=new_loop) as runner:
        # The first round only warms up.
        for measured in range(rounds + 1):
            sleep, switch = timed(runner, sleep_in_group), timed(runner, yield_in_group)
            delay = runner.run(delay_in_group())
            if measured:
                sleeps.append(sleep)
                switches.append(switch)
                delays.extend(delay)
    return {
        "sleep_10000_ms": {"TaskGroup": figures(sleeps, 1e3)},
        "switch_ns": {"TaskGroup": figures(switches, 1e9 / (YIELDING * YIELDS))},
        "delay_us": {"TaskGroup": figures(delays, 1e6)},
    }


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    result = {"rounds": rounds, "python": sys.version.split()[0]}
    result["asyncio"] = measure(asyncio.new_event_loop, rounds)
    try:
        import uvloop
    except ImportError:
        result["uvloop"] = None
    else:
        result["uvloop_version"] = uvloop.__version__
        result["uvloop"] = measure(uvloop.new_event_loop, rounds)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
