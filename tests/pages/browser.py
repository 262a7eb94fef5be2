"""A page in a browser, on a phone and on a desk, light and dark, and what no page of ours may do: the checks of pages.py and dashboard.py.

A page must fit the width, ask no other host for anything, say nothing wrong on the console, and be readable.
"""

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


class Visit:
    """A page in a window of its own, and what it did that it should not."""

    def __init__(self, browser, url, path, size, scheme):
        width, height = SIZES[size]
        self.url = url
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
        self.page.goto(url + path)

    def on_console(self, message):
        if message.type in ("error", "warning"):
            self.wrong.append(f"on the console: {message.text}")

    def on_request(self, request):
        if not request.url.startswith((f"{self.url}/", "data:", "blob:")):
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
        self.page.screenshot(path=picture)
        self.context.close()
        expect(not self.wrong, "; ".join(self.wrong[:5]))
