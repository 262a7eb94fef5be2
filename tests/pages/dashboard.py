"""The dashboard of the admin side in a browser, while `baiwan load` asks: `dashboard.py BAIWAN CHROMIUM PICTURES`.

What it shows must move, and be what `/metrics` says; it must be readable on a phone and on a desk, in the light and in the dark, by
keyboard, too; it must say when the server is away, and go on when it is back. The directory PICTURES gets `dashboard.png`. Each check
prints `ok NAME` or what is wrong. One line says how much processor time the thread of the admin side took while the page was open and the
service had as much to do as it could.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from playwright.sync_api import Error, sync_playwright

from browser import FLAGS, PATIENCE_MS, SCHEMES, SIZES, Failed, Visit, expect

BAIWAN, CHROMIUM, PICTURES = sys.argv[1:4]
PATIENCE_S = PATIENCE_MS / 1000
# Connections that the load holds, and what it asks a second.
CONNECTIONS, RATE = 300, 400
# Connections that ask nothing: from 10,000 on the page says what one takes.
IDLE = 12_000
PICTURE_BYTES_MAX = 200_000
MEASURED_S = 20
TILE = """
(label) => [...document.querySelectorAll(".tiles div")].find((tile) => tile.querySelector("dt").textContent === label)
  ?.querySelector(".value").textContent ?? null
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(condition, what, patience_s=PATIENCE_S):
    """Waits until the condition holds, and returns what it found."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise Failed(f"it did not come to pass that {what}")


class Service:
    """`baiwan serve` on ports that stay the same when it is started again."""

    def __init__(self, folder):
        self.folder, self.ports, self.process = folder, (free_port(), free_port()), None
        self.url, self.admin = (f"http://127.0.0.1:{port}" for port in self.ports)

    def start(self):
        port, admin_port = map(str, self.ports)
        environment = {"HOST": "127.0.0.1", "PORT": port, "ADMIN_PORT": admin_port, "STATE_DIRECTORY": self.folder}
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen(
                [BAIWAN, "serve", "--demo"], env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=log
            )
        until(self.is_ready, "the service is ready")

    def is_ready(self):
        expect(self.process.poll() is None, "the service has ended")
        try:
            return urllib.request.urlopen(f"{self.admin}/health/ready", timeout=PATIENCE_S).status == 200
        except (urllib.error.URLError, ConnectionError):
            return False

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=PATIENCE_S)
            self.process = None

    def metric(self, name):
        """The sum of a metric's series."""
        text = urllib.request.urlopen(f"{self.admin}/metrics", timeout=PATIENCE_S).read().decode()
        values = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
        expect(values, f"there is no metric {name}")
        return sum(map(float, values))

    def admin_seconds(self):
        """Processor time of the admin side's thread."""
        tasks = f"/proc/{self.process.pid}/task"
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/comm") as name:
                if name.read().strip() != "baiwan-admin":
                    continue
            # In nanoseconds, where `stat` has hundredths of a second.
            with open(f"{tasks}/{task}/schedstat") as statistics:
                return int(statistics.read().split()[0]) / 1e9
        raise Failed("there is no thread of the admin side")

    def data(self):
        return json.load(urllib.request.urlopen(f"{self.admin}/dashboard/data", timeout=PATIENCE_S))

    def fail(self, times):
        """Has requests fail: what cannot be stored is answered 503."""
        database = os.path.join(self.folder, "baiwan.db")
        os.rename(database, f"{database}.away")
        try:
            for number in range(times):
                body = json.dumps({"name": f"lost {number}"}).encode()
                request = urllib.request.Request(f"{self.url}/api/users", body, {"Content-Type": "application/json"})
                try:
                    urllib.request.urlopen(request, timeout=PATIENCE_S)
                    raise Failed("what cannot be stored was stored")
                except urllib.error.HTTPError as error:
                    expect(error.code == 503, f"it was answered {error.code}")
        finally:
            os.rename(f"{database}.away", database)


class Load:
    """`baiwan load`, until it is ended."""

    def __init__(self, url, *flags, duration=True):
        duration = ["--duration", "1h"] if duration else []
        self.process = subprocess.Popen(
            [BAIWAN, "load", url, *duration, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=PATIENCE_S)


def number(text):
    return float(re.sub(r"[^\d.]", "", text) or "nan")


def agrees(browser, service):
    """Numbers move, and are those of /metrics."""
    visit = Visit(browser, service.admin, "/", "desk", "light")
    page = visit.page
    until(lambda: service.metric("baiwan_connections") > IDLE + CONNECTIONS, "the load holds its connections")
    connections = service.metric("baiwan_connections")
    until(lambda: number(page.evaluate(TILE, "Connections") or "") == connections, f"it shows {connections} connections")
    before = (service.metric("http_requests_total"), service.data()["next"])
    drawn = page.locator(".plot canvas").first.screenshot()
    until(lambda: service.data()["next"] >= before[1] + 5, "seconds go by")
    expect(page.locator(".plot canvas").first.screenshot() != drawn, "the chart stands still")
    data = service.data()
    requests = service.metric("http_requests_total") - before[0]
    shown = sum(sum(data["seconds"]["answers_per_second"][key][before[1] - data["next"] :]) for key in ("2xx", "3xx", "4xx", "5xx"))
    # The two questions are not asked at one instant: a second more or less.
    expect(abs(requests - shown) <= 1.5 * RATE, f"it counts {shown} requests, and /metrics {requests}")
    rate = number(page.evaluate(TILE, "Requests a second"))
    expect(rate > 0, "it shows no requests")
    expect(re.search(r"\d (µs|ms|s)$", page.evaluate(TILE, "Latency p99")), "it shows no latency")
    routes = page.inner_text("#routes")
    expect("/api/users" in routes and "unmatched" in routes, f"it shows the routes {routes!r}")
    visit.end(os.path.join(PICTURES, "dashboard-agrees.png"))


def errors(browser, service):
    """What failed is listed with its request id."""
    visit = Visit(browser, service.admin, "/", "desk", "light")
    service.fail(5)
    visit.page.wait_for_selector("#errors li")
    listed = visit.page.inner_text("#errors")
    expect("503" in listed and "POST /api/users" in listed, f"it lists {listed!r}")
    told = [error["request_id"] for error in service.data()["errors"]]
    expect(told and all(told), f"there are the request ids {told}")
    until(lambda: visit.page.locator("#errors .id code").all_inner_texts() == told, f"it shows the request ids {told}")
    visit.end(os.path.join(PICTURES, "dashboard-errors.png"))


def keyboard(browser, service):
    """A chart can be read by keyboard."""
    visit = Visit(browser, service.admin, "/", "desk", "light")
    page = visit.page
    until(lambda: len(service.data()["seconds"]["at_ms"]) > 12, "there are seconds to go back to")
    plot = page.locator(".plot").first
    plot.focus()
    at = page.locator(".legend").first.locator(".bare + dd")
    seen = []
    for key in ("ArrowLeft", "ArrowLeft", "PageUp"):
        page.keyboard.press(key)
        at.wait_for()
        seen.append(at.inner_text())
    expect(seen[0] > seen[1] > seen[2], f"the cursor goes over {seen}")
    page.keyboard.press("Escape")
    at.wait_for(state="hidden")
    page.get_by_role("button", name="Pause").press("Enter")
    page.wait_for_function("document.querySelector('#about').textContent.includes('paused at')")
    page.get_by_label("15 min").check()
    visit.end(os.path.join(PICTURES, "dashboard-keyboard.png"))


def look(browser, service, size, scheme):
    visit = Visit(browser, service.admin, "/", size, scheme)
    visit.page.wait_for_selector("#routes tr")
    visit.page.wait_for_selector("#errors li")
    until(lambda: "B each" in visit.page.inner_text("#tiles"), "it says what a connection takes")
    visit.fits()
    visit.is_readable("body", 60)
    visit.page.set_viewport_size({"width": 320, "height": 740} if size == "phone" else {"width": 1600, "height": 900})
    visit.fits()
    visit.end(os.path.join(PICTURES, f"dashboard-{size}-{scheme}.png"))


def zero(browser, _):
    """A server that has served nobody."""
    with tempfile.TemporaryDirectory() as folder:
        service = Service(folder)
        try:
            service.start()
            visit = Visit(browser, service.admin, "/", "phone", "dark")
            until(lambda: visit.page.evaluate(TILE, "Connections") == "0", "it shows that there are no connections")
            until(lambda: visit.page.inner_text("#state-text") == "Ready", "it says that the service is ready")
            expect("None since the start" in visit.page.inner_text("body"), "it does not say that there are no errors")
            expect("NaN" not in visit.page.inner_text("body"), "it shows what is no number")
            visit.fits()
            visit.end(os.path.join(PICTURES, "dashboard-zero.png"))
        finally:
            service.stop()


def away(browser, service):
    """A server that stops and starts again."""
    visit = Visit(browser, service.admin, "/", "desk", "light")
    state = visit.page.locator("#state-text")
    until(lambda: state.inner_text() == "Ready", "it says that the service is ready")
    service.stop()
    until(lambda: re.match(r"Not reachable since \d\d:\d\d:\d\d$", state.inner_text()), "it says that the service is away")
    service.start()
    until(lambda: state.inner_text() == "Ready", "it goes on")
    until(lambda: "started anew" in visit.page.inner_text("#findings"), "it says that the service has started anew")
    # A browser says of each question that it had no answer.
    visit.wrong = [line for line in visit.wrong if "ERR_CONNECTION_REFUSED" not in line and "/dashboard/data" not in line]
    visit.end(os.path.join(PICTURES, "dashboard-away.png"))


def take_picture(browser, service):
    """For the documents."""
    visit = Visit(browser, service.admin, "/", "desk", "light")
    visit.page.set_viewport_size({"width": 1280, "height": 1010})
    visit.page.get_by_label("1 min", exact=True).check()
    until(lambda: len(service.data()["seconds"]["at_ms"]) > 60, "a minute has gone by", 120)
    visit.page.wait_for_timeout(1500)
    path = os.path.join(PICTURES, "dashboard.png")
    visit.end(path)
    expect(os.path.getsize(path) < PICTURE_BYTES_MAX, f"the picture has {os.path.getsize(path)} bytes")


def cost(browser, service):
    """Prints what the admin side costs beside an open page and full load."""
    visit = Visit(browser, service.admin, "/", "desk", "light")
    load = Load(f"{service.url}/health/live", "--connections", "1000")
    try:
        until(lambda: number(visit.page.evaluate(TILE, "Connections") or "") > IDLE + 1000, "the load has its connections")
        before = (service.admin_seconds(), service.metric("http_requests_total"), time.monotonic())
        visit.page.wait_for_timeout(MEASURED_S * 1000)
        after = (service.admin_seconds(), service.metric("http_requests_total"), time.monotonic())
    finally:
        load.end()
    used, requests, elapsed = (one - other for one, other in zip(after, before))
    share = f"{used:.2f} s of processor time in {elapsed:.1f} s, {used / elapsed:.2%} of a core"
    print(f"the admin side took {share}, at {requests / elapsed:.0f} requests a second")
    visit.end(os.path.join(PICTURES, "dashboard-cost.png"))


def main():
    good = True
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        service = Service(folder)
        service.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        loads = [
            Load(f"{service.url}/api/users?limit=20", "--connections", str(CONNECTIONS), "--rate", str(RATE)),
            Load(f"{service.url}/nowhere", "--connections", "2", "--rate", "15", "--expect-status", "404"),
            Load(f"{service.url}/", "--connections", "5", "--rate", "60"),
            Load(f"{service.url}/", "--connections", str(IDLE), "--hold", "1h", duration=False),
        ]
        checks = [(agrees,), (errors,), (keyboard,)]
        checks += [(look, size, scheme) for size in SIZES for scheme in SCHEMES]
        checks += [(take_picture,), (cost,), (zero,), (away,)]
        for check, *arguments in checks:
            name = "-".join(["dashboard", check.__name__, *arguments])
            try:
                check(browser, service, *arguments)
                print(f"ok {name}", flush=True)
            except (Failed, Error) as error:
                print(f"FAILED {name}: {error}", flush=True)
                good = False
        for load in loads:
            load.end()
        browser.close()
        service.stop()
    return 0 if good else 1


sys.exit(main())
