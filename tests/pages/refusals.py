"""What a page of another site reads of the service's refusals, in a browser: `refusals.py BAIWAN CHROMIUM`.

Two servers are started: one that lets a client ask four times an hour, and one whose connections are all taken. Each check prints
`ok NAME` or what is wrong.
"""

import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading

from playwright.sync_api import Error, sync_playwright

BAIWAN, CHROMIUM = sys.argv[1:3]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
PATIENCE_S = 30
FETCH = """
async ([url, options]) => {
  const answer = await fetch(url, options);
  const fields = Object.fromEntries(["retry-after", "ratelimit", "ratelimit-policy"].map((name) => [name, answer.headers.get(name)]));
  return { status: answer.status, text: await answer.text(), ...fields };
}
"""
# Whether an EventSource that was refused would connect again.
EVENTS = """
(url) => new Promise((resolve) => {
  const source = new EventSource(url);
  source.onerror = () => {
    resolve(source.readyState === EventSource.CONNECTING);
    source.close();
  };
})
"""


class Failed(Exception):
    """What a check found."""


def expect(condition, what):
    if not condition:
        raise Failed(what)


class Site(http.server.BaseHTTPRequestHandler):
    """Another site, with an empty page."""

    def do_GET(self):  # noqa: N802 (the library's name)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another site</title>")

    def log_message(self, *_):
        """Says nothing."""


class Service:
    """The service with these settings, until the end of the block."""

    def __init__(self, **settings):
        self.directory = tempfile.TemporaryDirectory()
        environment = {"HOST": "127.0.0.1", "PORT": "0", "LOG_FORMAT": "json", "ACCESS_LOG": "off", "ADMIN_HOST": "off"}
        environment.update(STATE_DIRECTORY=self.directory.name, **settings)
        self.process = subprocess.Popen([BAIWAN, "serve"], env=environment, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            said = json.loads(line)
            if said["message"] == "baiwan is ready":
                self.url = said["addresses"].split(" ")[0]
                break
        else:
            sys.exit("the service ended before it was ready")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.directory.cleanup()


def limited(page, origin):
    with Service(RATE_LIMIT="4/h", CORS_ORIGINS=origin) as service:
        asked = {"method": "POST", "headers": {"content-type": "application/json", "idempotency-key": "a"}, "body": '{"name":"Ada"}'}
        for _ in range(4):
            # The browser asks before each whether it may, because nothing is remembered of another path.
            found = page.evaluate(FETCH, [f"{service.url}/api/users?{os.urandom(4).hex()}", asked])
            expect(found["status"] in (200, 201), f"a preflight was counted: {found}")
        found = page.evaluate(FETCH, [f"{service.url}/api/users", asked])
        expect(found["status"] == 429, f"the fifth was answered {found}")
        expect(int(found["retry-after"]) >= 900, f"it does not say when to come back: {found}")
        expect(found["ratelimit-policy"] == '"default";q=4;w=3600' and found["ratelimit"], f"it does not say its limit: {found}")
        expect(json.loads(found["text"])["violated-policies"] == ["default"], f"the problem is not readable: {found}")
        expect(page.evaluate(EVENTS, f"{service.url}/events"), "an EventSource was closed for ever")


def full(page, origin):
    with Service(MAX_CONNECTIONS="4", CORS_ORIGINS=origin, WORKERS="1") as service:
        host, port = service.url.removeprefix("http://").split(":")
        held = [socket.create_connection((host, int(port)), PATIENCE_S) for _ in range(4)]
        for connection in held:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n")
            expect(connection.recv(9) == b"HTTP/1.1 ", "a connection was not taken")
        found = page.evaluate(FETCH, [f"{service.url}/api/users", {}])
        expect(found["status"] == 503 and found["retry-after"] == "1", f"beyond the maximum it read {found}")
        expect("too-many-connections" in found["text"], f"the text is not readable: {found}")
        for connection in held:
            connection.close()


def main():
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    origin = f"http://127.0.0.1:{site.server_address[1]}"
    good = True
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.goto(origin)
        for check in (limited, full):
            try:
                check(page, origin)
                print(f"ok {check.__name__}", flush=True)
            except (Failed, Error) as error:
                print(f"FAILED {check.__name__}: {error}", flush=True)
                good = False
        browser.close()
    return 0 if good else 1


sys.exit(main())
