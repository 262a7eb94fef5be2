"""The service's pages in a browser: `pages.py URL CHROMIUM PICTURES`.

Each page is opened on a phone and on a desk, light and dark; browser.py says what every page must keep to. The description of the API
must list every operation, open one, and really try it out. What it looked like is left in the directory PICTURES. Each check prints
`ok NAME` or what is wrong.
"""

import json
import os
import sys
import urllib.request

from playwright.sync_api import Error, sync_playwright

from browser import FLAGS, SCHEMES, SIZES, Failed, Visit, expect

URL, CHROMIUM, PICTURES = sys.argv[1:4]
# What is read on the page that Swagger UI makes. Its buttons and badges are its own.
DOCS_TEXT = (
    "nav a, .info .title, .info p, .info li, .opblock-tag span, .opblock-tag p, .opblock-summary-path, "
    ".opblock-summary-description, .opblock-description p, .parameter__name, .parameters-col_description p, "
    ".response-col_status, .response-col_description p, .opblock-section-header h4"
)
METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")

def operations():
    with urllib.request.urlopen(f"{URL}/openapi.json", timeout=30) as answer:
        paths = json.load(answer)["paths"]
    return {f"{method.upper()} {path}" for path, item in paths.items() for method in item if method in METHODS}


def picture(name):
    return os.path.join(PICTURES, f"{name}.png")


def front(browser, size, scheme):
    visit = Visit(browser, URL, "/", size, scheme)
    page = visit.page
    shown = page.inner_text("body")
    for operation in operations():
        expect(operation.split(" ")[1] in shown, f"{operation} is not listed")
    expect(f"BASE={URL} " in shown, "the examples do not ask where the page is")
    visit.fits()
    visit.is_readable("body", 20)
    page.evaluate("window.scrollTo(0, 0)")
    visit.end(picture(f"front-{size}-{scheme}"))


def docs(browser, size, scheme):
    visit = Visit(browser, URL, "/docs", size, scheme)
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
    page.screenshot(path=picture(f"docs-{size}-{scheme}"))

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
    visit.end(picture(f"docs-open-{size}-{scheme}"))


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
