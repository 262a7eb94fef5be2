"""The same answers from uWebSockets, through socketify.

uWebSockets closes a connection that is idle between requests for 10 s, and names itself in every answer; neither can be off.
"""

import asyncio
import sys

from socketify import App, AppListenOptions

import answers

TEXT = answers.TEXT.encode()


def hello(response, request):
    response.send(answers.HELLO, TEXT)


def json(response, request):
    response.send(answers.message(), b"application/json")


def echo(response, request):
    body = bytearray()

    def receive(response, chunk, is_last):
        if chunk:
            body.extend(chunk)
        if is_last:
            response.cork_send(bytes(body), b"application/octet-stream")

    response.on_data(receive)


async def sleep(response, request):
    await asyncio.sleep(answers.SLEEP_S)
    response.cork_send(answers.SLEPT, TEXT)


async def pending(response, request):
    await answers.hold()


def held(response, request):
    response.send(answers.held(), TEXT)


def sse(response, request):
    response.on_aborted(lambda response: None)
    response.write_header(b"content-type", b"text/event-stream")
    response.write_header(b"cache-control", b"no-cache")
    response.write(answers.EVENT)


def mixed(response, request):
    response.send(answers.mixed(), TEXT)


def main():
    app = App()
    app.get("/", hello)
    app.post("/echo", echo)
    for handler in (json, sleep, pending, held, sse, mixed):
        app.get(f"/{handler.__name__}", handler)
    app.listen(AppListenOptions(port=0, host="127.0.0.1"), lambda config: answers.announce(answers.widen()))
    app.run()


if __name__ == "__main__":
    if sys.argv[-1] == "--version":
        print(answers.versions("socketify"))
    else:
        main()
