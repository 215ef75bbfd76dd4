"""The actions of a person on the page, and what the person sees."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect

from tests.service.quadrants_model import encode


def upload(page: Page, image: Image.Image, name: str = "picture.png", kind: str = "PNG") -> None:
    """Choose a file and wait for its classes."""
    page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": encode(image, kind)})
    expect(page.locator("#viewport.busy")).to_have_count(0)
    expect(page.locator("#picture")).to_have_attribute("alt", name)


def read_heat(page: Page) -> NDArray[np.uint8]:
    """The layer of the map, (H, W, 4), with heat as opacity."""
    url: str = page.locator("#heat").evaluate("heat => heat.toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as layer:
        return np.asarray(layer.convert("RGBA"))


def read_classes(page: Page) -> list[str]:
    """The labels from the most probable one down."""
    return page.locator("#classes .label").all_inner_texts()


def find_pressed(page: Page) -> str:
    """The label of the map that is shown."""
    return page.locator("#classes [aria-pressed=true] .label").inner_text()
