"""Draws page*.png for docs/how-to/use-the-page.md and the README: the page of a running server, in
Chromium. Run it in the root: python docs/pictures/draw_page.py http://127.0.0.1:3000.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from tests.page.conftest import BROWSERS, FLAGS

EXAMPLES, PICTURES = Path("docs/examples"), Path("docs/pictures")
PATIENCE_MS = 60_000
MANY = ("dog_and_cat.jpg", "dragonfly.jpg", "four.png", "nuclei.png", "parrot.jpg", "seven.png")


def open_page(browser, width, height, **options):
    """The page before the first picture."""
    page = browser.new_page(viewport={"width": width, "height": height}, **options)
    page.set_default_timeout(PATIENCE_MS)
    page.goto(sys.argv[1])
    page.locator("#welcome-examples img").nth(2).wait_for()
    return page


def choose_example(page, number=0):
    """Ask about an example and wait for the whole answer."""
    page.locator("#welcome-examples button").nth(number).click()
    expect(page.locator("#classes li")).to_have_count(8)
    page.locator("#place").filter(has_text=".").wait_for()
    page.mouse.move(0, 0)


def draw(page, name, **options):
    """A screenshot with 256 colours, which takes half of the bytes."""
    shot = Image.open(io.BytesIO(page.screenshot(**options))).convert("RGB")
    palette = shot.quantize(
        256, Image.Quantize.MAXCOVERAGE
    )  # keeps rare colours, such as the heat's
    shot.quantize(palette=palette).save(PICTURES / name, optimize=True)


def draw_at(page, selector, name, width, height):
    """The page from a part on."""
    top = page.locator(selector).bounding_box()["y"] + page.evaluate("scrollY")
    part = {"x": 0, "y": top, "width": width, "height": height}
    draw(page, name, full_page=True, clip=part)


expect.set_options(timeout=PATIENCE_MS)
with sync_playwright() as playwright:
    path = next(filter(None, map(shutil.which, BROWSERS)))
    browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
    page = open_page(browser, 1140, 600)
    draw(page, "page-first.png")
    page.set_viewport_size({"width": 1140, "height": 850})
    choose_example(page)
    draw(page, "page.png")
    page.locator("#compare").click()
    page.locator("#workbench .lead", has_text="without the box").wait_for()
    page.mouse.move(0, 0)
    draw_at(page, "#workbench", "page-compare.png", 1140, 830)
    page = open_page(browser, 1140, 850)
    page.set_input_files("#file", [str(EXAMPLES / name) for name in MANY])
    page.get_by_text("6 of 6 pictures are explained.").wait_for()
    draw_at(page, "#workbench", "page-gallery.png", 1140, 430)
    phone = open_page(browser, 390, 844, has_touch=True, is_mobile=True)
    choose_example(phone)
    phone.locator("#classes").scroll_into_view_if_needed()
    phone.evaluate("scrollBy(0, 85)")  # away with the headline, and two search fields appear
    draw(phone, "page-phone.png")
    browser.close()
