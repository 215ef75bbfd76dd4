"""Fixtures: a headless Chromium that shows the page of the real service."""

import base64
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.server import Server, wait_until
from tests.service.quadrants_model import LABELS, encode, light, write_model
from tests.warm_process import start_worker

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
LOG_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error("policy: " + event.violatedDirective + " " + event.blockedURI));
"""
SURE = {"threshold": 0.6, "unfamiliar": {"score": "largest_logit", "threshold": 3.0}}


def make_examples(size: int) -> list[dict[str, str]]:
    """Two pictures that the quadrants know, for a card."""
    return [
        {
            "image": base64.b64encode(encode(light(quarter, (size, size)))).decode(),
            "title": f"light at the {LABELS[quarter]} <b>&amp;",
            "label": LABELS[quarter],
            "credit": "drawn for the test",
        }
        for quarter in (1, 2)
    ]


MODELS: dict[str, dict[str, Any]] = {
    "colours/1": {"side": 32, "examples": make_examples(32)},
    "colours/2": {
        "side": 64,
        "examples": make_examples(64),
        "title": "Lights <i>in</i> colour",
        "summary": "Says which quarter of a picture is light.",
        "metrics": {"accuracy": 0.981, "pictures": 2000, "measured_on": "the test split"},
        "training": {"data": "drawn quarters"},
        "checks": {"faithfulness": {"doubts": ["half of the maps are empty"]}},
    },
    "gray/1": {"mode": "L", "side": 28, "confidence": SURE, "examples": make_examples(28)},
    "many/1": {"labels": [*LABELS, *(f"kind {number}" for number in range(4, 1000))]},
}
REJECTED = "Failed to load resource"  # the browser itself logs errors and lost connections
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Watch:
    """The URLs that the browser requested, and its errors."""

    urls: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def follow(self, context: BrowserContext) -> None:
        """Record the requests and errors of all pages in a context."""
        context.add_init_script(LOG_VIOLATIONS)
        context.on("request", lambda request: self.urls.append(request.url))
        context.on("weberror", lambda event: self.errors.append(str(event.error)))
        context.on(
            "console",
            lambda message: (
                self.errors.append(message.text)
                if message.type in ("error", "warning") and REJECTED not in message.text
                else None
            ),
        )


@pytest.fixture(scope="module")  # while it is open, no other test can run an event loop
def browser() -> Iterator[Browser]:
    """The Chromium installed on this machine; the tests skip without one."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"needs a browser: install one of {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two versions of a colour model, a small gray model that warns, and one with 1,000 classes."""
    assert browser
    folder = tmp_path_factory.mktemp("page")
    for name, changes in MODELS.items():
        write_model(folder / "models" / name / "model.onnx", **changes)
    with start_worker(folder / "models", folder, workers=1) as running:
        running.wait_ready()
        wait_until(lambda: find_states(running) == ["ready"] * len(MODELS))
        yield running


def find_states(server: Server) -> list[str]:
    """The states of all versions. The default model is ready before the others are."""
    models = server.client.get("/models").json()["models"]
    return [version["state"] for model in models for version in model["versions"]]


@pytest.fixture
def context(browser: Browser, site: Server) -> Iterator[BrowserContext]:
    """A new profile. At the end, no request may have left the site and no policy been violated."""
    watch = Watch()
    with browser.new_context(base_url=site.url) as context:
        context.set_default_timeout(PATIENCE_MS)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        watch.follow(context)
        yield context
    assert watch.errors == []
    assert [
        url for url in watch.urls if not url.startswith((f"{site.url}/", "data:", "blob:"))
    ] == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """The page after it has loaded the list of models."""
    page = context.new_page()
    page.goto("/")
    page.locator("#welcome-examples button").first.wait_for()
    return page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the pictures of a person."""
    return tmp_path
