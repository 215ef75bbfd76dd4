"""The actions of a person on the page, and what the person sees."""

import base64
import io
import itertools

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect

from tests.service.quadrants_model import encode

numbers = itertools.count(1)


def upload(page: Page, image: Image.Image, name: str | None = None, kind: str = "PNG") -> None:
    """Choose a file and wait for its answer.

    The page names the picture at the moment when it shows all of the answer. So each has another
    name, or the name of the one before would do.
    """
    name = name or f"picture {next(numbers)}.png"
    expect(page.locator("#picture")).not_to_have_attribute("alt", name)
    page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": encode(image, kind)})
    expect(page.locator("#picture")).to_have_attribute("alt", name)


def choose_view(page: Page, view: str) -> None:
    """Choose what the map shows. The page draws it at once."""
    page.locator(f"[name=view][value={view}]").check(force=True)  # its label lies over it


def read_heat(page: Page, canvas: str = "#heat") -> NDArray[np.uint8]:
    """The layer of the map, (H, W, 4), with heat as opacity."""
    url: str = page.locator(canvas).evaluate("heat => heat.toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as layer:
        return np.asarray(layer.convert("RGBA"))


def read_classes(page: Page) -> list[str]:
    """The labels from the most probable one down."""
    return page.locator("#classes .label").all_inner_texts()


def find_pressed(page: Page) -> str:
    """The label of the map that is shown."""
    return page.locator("#classes [aria-pressed=true] .label").inner_text()
