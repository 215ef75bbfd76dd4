"""A headless Chromium on the page of the real service."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.server import Server
from tests.service.quadrants import write_model
from tests.warm import start_worker

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TELL_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error("policy: " + event.violatedDirective + " " + event.blockedURI));
"""
REFUSED = "Failed to load resource: the server responded"  # what the service refused, told as well
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Watch:
    """What the browser asked for and complained of."""

    urls: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def follow(self, context: BrowserContext) -> None:
        """Hear of everything that happens in a context's pages."""
        context.add_init_script(TELL_VIOLATIONS)
        context.on("request", lambda request: self.urls.append(request.url))
        context.on("weberror", lambda fault: self.complaints.append(str(fault.error)))
        context.on(
            "console",
            lambda told: (
                self.complaints.append(told.text)
                if told.type in ("error", "warning") and REFUSED not in told.text
                else None
            ),
        )


@pytest.fixture(scope="module")  # while it lives, no other test can run an event loop of its own
def browser() -> Iterator[Browser]:
    """The machine's own Chromium; without one the test skips."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"needs a browser: install one of {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service with a model for colours, in two versions, and a small one for gray."""
    assert browser
    folder = tmp_path_factory.mktemp("page")
    for name, mode, side in (
        ("colours/1", "RGB", 32),
        ("colours/2", "RGB", 64),
        ("gray/1", "L", 28),
    ):
        write_model(folder / "models" / name / "model.onnx", mode=mode, side=side)
    with start_worker(folder / "models", folder, workers=1) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def context(browser: Browser, site: Server) -> Iterator[BrowserContext]:
    """A fresh profile; afterwards nothing must have left the site or broken its policy."""
    watch = Watch()
    with browser.new_context(base_url=site.url) as context:
        context.set_default_timeout(PATIENCE_MS)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        watch.follow(context)
        yield context
    assert watch.complaints == []
    assert [
        url for url in watch.urls if not url.startswith((f"{site.url}/", "data:", "blob:"))
    ] == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """The page, with its models known."""
    page = context.new_page()
    page.goto("/")
    page.locator("#examples button").first.wait_for()
    return page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a person keeps pictures."""
    return tmp_path
