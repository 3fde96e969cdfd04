"""A browser for the pages of runs."""

import importlib.util
import os
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
QUIET = (
    ["sandbox", "first-run"],
    ["gpu", "quic", "background-networking", "component-update", "sync"],
)
QUIET = [
    f"--{word}-{x}" for word, names in zip(("no", "disable"), QUIET, strict=True) for x in names
]
HANGS = 600_000  # milliseconds: only what hangs takes so long, on however slow a machine


@pytest.fixture(scope="module")
def chromium():
    found = CHROMIUM and importlib.util.find_spec("playwright")
    if not found and os.environ.get("JAXSCHED_BROWSER") == "required":
        pytest.fail("there is no Chromium, or no playwright, and JAXSCHED_BROWSER=required")
    if not found:
        pytest.skip("there is no Chromium, or no playwright, on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET, timeout=HANGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """Opens pages, of which none may complain, nor ask for anything but itself."""
    contexts, complaints, asked = [], [], []

    def route(x):
        asked.append(x.request.url)
        if x.request.url.startswith("file:"):
            x.continue_()
        else:
            x.abort()

    def opened(file, width=1100, scheme="light"):
        size = {"width": width, "height": 2400}  # all of it, so that nothing scrolls
        contexts.append(chromium.new_context(viewport=size, color_scheme=scheme))
        contexts[-1].set_default_timeout(HANGS)
        page = contexts[-1].new_page()
        page.route("**/*", route)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert len(asked) == len(contexts)
    assert all(url.startswith("file:") for url in asked)
