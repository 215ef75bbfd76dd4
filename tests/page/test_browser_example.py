"""`examples/browser` runs a bundled model file in a browser, without a server."""

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.page.conftest import PATIENCE_MS
from tests.server import ROOT

RUNTIME = ROOT / "examples" / "browser" / "ort" / "ort.wasm.min.mjs"


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def files() -> Iterator[str]:
    """The address of the repository's folder, served as plain files."""
    handler = functools.partial(QuietHandler, directory=str(ROOT))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(not RUNTIME.exists(), reason="needs onnxruntime-web, see the example's README")
def test_a_bundled_file_gives_the_same_answer_and_map_in_the_browser(
    browser: Browser, files: str
) -> None:
    page = browser.new_page()
    page.goto(f"{files}/examples/browser/")
    expect(page.locator("#status")).to_have_text("Handwritten digits: 7", timeout=PATIENCE_MS)
    outputs = page.evaluate("outputs")
    page.close()
    with Image.open(ROOT / "docs" / "examples" / "seven.png") as picture:
        image = np.asarray(picture.convert("L"))[None, :, :, None]  # (1, H, W, 1)
    session = ort.InferenceSession(ROOT / "models" / "lenet5" / "1" / "model.onnx")
    feeds = {"image": image, "target": np.array([[-1]], np.int64)}
    probabilities, cam = session.run(["probabilities", "cam"], feeds)
    assert np.abs(np.array(outputs["probabilities"]) - probabilities[0]).max() < 1e-6
    assert np.abs(np.array(outputs["cam"]) - cam[0, 0]).max() < 1e-6 * np.abs(cam).max() + 1e-6
