"""The service's pages in a browser: `pages.py URL CHROMIUM PICTURES`.

Each page is opened on a phone and on a desk, light and dark. It must fit the width, ask no other host for anything, say nothing
wrong on the console, and be readable; the description of the API must list every operation, open one, and really try it out. What
it looked like is left in the directory PICTURES. Each check prints `ok NAME` or what is wrong.
"""

import json
import os
import sys
import urllib.request

from playwright.sync_api import Error, sync_playwright

URL, CHROMIUM, PICTURES = sys.argv[1:4]
# Nothing that works takes this long.
PATIENCE_MS = 30_000
SIZES = {"phone": (360, 740), "desk": (1280, 800)}
SCHEMES = ("light", "dark")
# A browser that has a network of its own asks its maker for this and that.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# What is read on the page that Swagger UI makes. Its buttons and badges are its own.
DOCS_TEXT = (
    "nav a, .info .title, .info p, .info li, .opblock-tag span, .opblock-tag p, .opblock-summary-path, "
    ".opblock-summary-description, .opblock-description p, .parameter__name, .parameters-col_description p, "
    ".response-col_status, .response-col_description p, .opblock-section-header h4"
)
METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")

# Contrast of every text in what a selector finds (WCAG 2.2, 1.4.3): a list of those that are too faint, and how many there are.
FAINT = """
(selector) => {
  const numbers = (text) => text.match(/-?[\\d.]+(?:e-?\\d+)?/g).map(Number);
  const color = (text) => {
    let [red, green, blue, alpha = 1] = numbers(text.replace(/^color\\(\\S+ /, ""));
    if (text.startsWith("color(")) [red, green, blue] = [red, green, blue].map((part) => part * 255);
    return { parts: [red, green, blue], alpha };
  };
  const over = (top, below) => top.parts.map((part, at) => part * top.alpha + below[at] * (1 - top.alpha));
  const canvas = () => {
    const probe = document.createElement("i");
    probe.style.backgroundColor = "Canvas";
    document.documentElement.append(probe);
    const found = color(getComputedStyle(probe).backgroundColor).parts;
    probe.remove();
    return found;
  };
  const background = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const layer = color(getComputedStyle(at).backgroundColor);
      layers.unshift(layer);
      if (layer.alpha === 1) break;
    }
    return layers.reduce((below, layer) => over(layer, below), canvas());
  };
  const luminance = (parts) => {
    const linear = parts.map((part) => part / 255).map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const ratio = (one, other) => {
    const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };
  const faint = [];
  let seen = 0;
  for (const root of document.querySelectorAll(selector)) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement;
      const style = getComputedStyle(element);
      const shown = element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;
      if (!node.textContent.trim() || !shown || ["STYLE", "SCRIPT"].includes(element.tagName)) continue;
      seen += 1;
      const behind = background(element);
      const ink = color(style.color);
      for (let at = element; at; at = at.parentElement) ink.alpha *= Number(getComputedStyle(at).opacity);
      const pixels = parseFloat(style.fontSize);
      const large = pixels >= 24 || (pixels >= 18.66 && Number(style.fontWeight) >= 700);
      const found = ratio(over(ink, behind), behind);
      if (found < (large ? 3 : 4.5)) faint.push(`${found.toFixed(2)}: ${node.textContent.trim().slice(0, 60)}`);
    }
  }
  return { seen, faint };
}
"""


class Failed(Exception):
    """What a check found."""


def expect(condition, what):
    if not condition:
        raise Failed(what)


def operations():
    with urllib.request.urlopen(f"{URL}/openapi.json", timeout=30) as answer:
        paths = json.load(answer)["paths"]
    return {f"{method.upper()} {path}" for path, item in paths.items() for method in item if method in METHODS}


class Visit:
    """A page in a window of its own, and what it did that it should not."""

    def __init__(self, browser, path, size, scheme):
        width, height = SIZES[size]
        self.wrong = []
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.page.on("console", self.on_console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"an error was thrown: {error}"))
        self.page.on("request", self.on_request)
        self.page.on("response", self.on_response)
        self.page.on("requestfailed", lambda request: self.wrong.append(f"not to be had: {request.url}"))
        self.page.goto(URL + path)

    def on_console(self, message):
        if message.type in ("error", "warning"):
            self.wrong.append(f"on the console: {message.text}")

    def on_request(self, request):
        if not request.url.startswith((f"{URL}/", "data:", "blob:")):
            self.wrong.append(f"asked of another host: {request.url}")

    def on_response(self, response):
        if response.status >= 400:
            self.wrong.append(f"{response.url} was answered with {response.status}")

    def fits(self):
        found = self.page.evaluate("[document.scrollingElement.scrollWidth, window.innerWidth]")
        expect(found[0] <= found[1], f"it is {found[0]} pixels wide in a window of {found[1]}")

    def is_readable(self, selector, least):
        found = self.page.evaluate(FAINT, selector)
        expect(found["seen"] >= least, f"there are only {found['seen']} texts")
        expect(not found["faint"], f"too faint: {found['faint'][:10]}")

    def end(self, picture):
        self.page.screenshot(path=os.path.join(PICTURES, f"{picture}.png"))
        self.context.close()
        expect(not self.wrong, "; ".join(self.wrong[:5]))


def front(browser, size, scheme):
    visit = Visit(browser, "/", size, scheme)
    page = visit.page
    shown = page.inner_text("body")
    for operation in operations():
        expect(operation.split(" ")[1] in shown, f"{operation} is not listed")
    expect(f"BASE={URL} " in shown, "the examples do not ask where the page is")
    visit.fits()
    visit.is_readable("body", 20)
    page.evaluate("window.scrollTo(0, 0)")
    visit.end(f"front-{size}-{scheme}")


def docs(browser, size, scheme):
    visit = Visit(browser, "/docs", size, scheme)
    page = visit.page
    page.wait_for_selector(".opblock")
    listed = page.eval_on_selector_all(
        ".opblock",
        """(blocks) => blocks.map((block) => {
          const path = block.querySelector("[data-path]").dataset.path;
          return `${block.querySelector(".opblock-summary-method").textContent.trim()} ${path}`;
        })""",
    )
    expect(sorted(listed) == sorted(operations()), f"it lists {sorted(listed)}")
    visit.fits()
    visit.is_readable(DOCS_TEXT, 20)
    # A picture of what one sees first; the check of what was wrong comes at the end.
    page.screenshot(path=os.path.join(PICTURES, f"docs-{size}-{scheme}.png"))

    block = page.locator(".opblock", has=page.locator('[data-path="/health/live"]'))
    block.locator(".opblock-summary").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    status = block.locator(".live-responses-table .response-col_status").last
    status.wait_for()
    expect(status.inner_text().strip().startswith("200"), f"tried out, it was answered with {status.inner_text()!r}")
    answer = block.locator(".live-responses-table").inner_text()
    expect('"live"' in answer, f"the answer is not shown: {answer[:200]!r}")

    # One with parameters, a body and many answers is the widest.
    page.locator(".opblock", has=page.locator('[data-path="/api/users/{id}"]')).filter(
        has=page.locator(".opblock-summary-method", has_text="PUT")
    ).locator(".opblock-summary").click()
    page.wait_for_selector(".opblock-put .opblock-body")
    visit.fits()
    visit.is_readable(DOCS_TEXT, 30)
    page.locator(".opblock-put").scroll_into_view_if_needed()
    visit.end(f"docs-open-{size}-{scheme}")


def main():
    good = True
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for check in (front, docs):
            for size in SIZES:
                for scheme in SCHEMES:
                    name = f"{check.__name__}-{size}-{scheme}"
                    try:
                        check(browser, size, scheme)
                        print(f"ok {name}", flush=True)
                    except (Failed, Error) as error:
                        print(f"FAILED {name}: {error}", flush=True)
                        good = False
        browser.close()
    return 0 if good else 1


sys.exit(main())
