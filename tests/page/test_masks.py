"""With a model that segments, a person sees parts of a picture and asks why each is what it is."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor
from playwright.sync_api import Browser, Page, Route, expect

from tests.page.conftest import PATIENCE_MS, Watch
from tests.page.person import choose_view, find_pressed, read_classes, read_heat, upload
from tests.server import Server
from tests.service.mask_model import BLUE, LABELS, PALETTE, RED, paint, write_model
from tests.warm_process import start_worker

SIZE = (320, 240)
BOXES = ((RED, (0, 0, 160, 240)), (BLUE, (240, 120, 320, 240)))


@pytest.fixture(scope="module")
def cells(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with a model that finds red and blue."""
    assert browser
    folder = tmp_path_factory.mktemp("masks")
    write_model(folder / "models" / "cells" / "1" / "model.onnx")
    with start_worker(folder / "models", folder) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def page(browser: Browser, cells: Server) -> Iterator[Page]:
    """The page with the mask of a picture: red on the left, blue at the lower right."""
    watch = Watch()
    with browser.new_context(base_url=cells.url) as context:
        context.set_default_timeout(PATIENCE_MS)
        watch.follow(context)
        page = context.new_page()
        page.goto("/")
        expect(page.locator("#model")).to_be_enabled()
        upload(page, paint(*BOXES, size=SIZE))
        expect(page.locator("#classes li")).to_have_count(len(LABELS))
        yield page
    assert watch.errors == []


def ask_at(page: Page, x: int, y: int, to: tuple[int, int] | None = None) -> None:
    """Click a pixel of the picture, or drag from it to another one."""
    frame = page.locator("#stage").bounding_box()
    assert frame
    left, top = frame["x"], frame["y"]
    scale = frame["width"] / SIZE[0]
    page.mouse.move(left + x * scale, top + y * scale)
    page.mouse.down()
    if to:
        page.mouse.move(left + to[0] * scale, top + to[1] * scale, steps=4)
    page.mouse.up()


def test_the_parts_have_their_colours_and_a_legend_that_hides_them(page: Page) -> None:
    assert read_classes(page) == ["red", "background", "blue"]  # the part explained comes first
    expect(page.locator("#warnings")).to_contain_text("does not notice pictures of another kind")
    expect(page.locator("#top-share")).to_have_text("covers 50.0 % of the picture")
    layer = read_heat(page)
    height, width = layer.shape[:2]
    for label, (left, top, right, bottom) in BOXES:
        x, y = (left + right) * width // 640, (top + bottom) * height // 480
        assert tuple(layer[y, x]) == (*ImageColor.getrgb(PALETTE[label]), 255)
    assert layer[10, width - 10, 3] == 0  # background
    swatch = page.get_by_role("button", name="Show red on the picture")
    swatch.click()
    expect(swatch).to_have_attribute("aria-pressed", "false")
    page.emulate_media(forced_colors="active")  # the legend keeps its colours
    red, green, blue = ImageColor.getrgb(PALETTE[BLUE])[:3]
    shown = page.get_by_role("button", name="Show blue on the picture")
    expect(shown).to_have_css("background-color", f"rgb({red}, {green}, {blue})")
    hidden = read_heat(page)
    assert hidden[height // 2, width // 4, 3] == 0
    assert hidden[height * 3 // 4, width * 7 // 8, 3] == 255


def test_a_click_asks_about_a_point_and_a_drag_about_a_box(page: Page) -> None:
    ask_at(page, 280, 200)
    expect(page.locator("#caption")).to_have_text("Evidence for “blue” at this point")
    expect(page.locator("#place")).to_contain_text("The model gives “blue” 99.")
    assert find_pressed(page) == "blue"
    expect(page.locator("#region")).to_be_visible()
    ask_at(page, 0, 0, to=(80, 80))
    expect(page.locator("#caption")).to_have_text("Evidence for “red” in 64 pixels")
    heat = read_heat(page)[..., 3] > 127
    rows, columns = np.nonzero(heat)
    assert columns.max() < heat.shape[1] * 0.3
    assert rows.max() < heat.shape[0] * 0.4
    page.get_by_role("button", name="Ask about the whole picture").click()
    expect(page.locator("#region")).to_be_hidden()
    expect(page.locator("#caption")).to_have_text("Evidence for “red” in 384 pixels")


def test_the_keyboard_asks_about_a_point(page: Page) -> None:
    page.locator("#viewport").focus()
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#caption")).to_have_text("Evidence for “blue” at this point")


def test_a_part_can_be_compared_checked_and_kept_as_curl(page: Page) -> None:
    ask_at(page, 40, 40, to=(100, 200))
    expect(page.locator("#caption")).to_contain_text("Evidence for “red” in")
    page.select_option("#against", label="blue")
    expect(page.locator("#caption")).to_contain_text("“red” rather than “blue” in")
    page.locator("#check").click()
    expect(page.locator("#verdict")).to_contain_text("Blurring the hottest fifth of the picture")
    page.locator("#copy").click()
    expect(page.locator("#curl")).to_contain_text("box=40,40,100,200")
    choose_view(page, "parts")
    page.locator("#copy").click()
    expect(page.locator("#curl")).to_contain_text("/segment -o")


def test_of_a_part_without_pixels_no_certainty_is_said(page: Page) -> None:
    page.route("**/gradcam", lambda route: route.fulfill(json=take_pixels(route.fetch().json())))
    ask_at(page, 40, 40, to=(100, 200))
    expect(page.locator("#caption")).to_have_text(
        "There is no evidence for “red”, so the map is empty."
    )
    expect(page.locator("#place")).to_have_text("")


def take_pixels(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer as it is for a region in which no pixel has the class."""
    [explanation] = answer["explanations"]
    explanation["region"]["pixels"], explanation["target"]["probability"] = 0, None
    explanation |= {"empty": True, "box": None}
    return answer


def test_a_choice_made_before_the_answer_keeps_what_was_asked_before_it(page: Page) -> None:
    held: list[Route] = []

    def hold_until_both_are_asked(route: Route) -> None:
        held.append(route)
        if len(held) == 2:
            for each in held:
                each.continue_()

    page.route("**/gradcam", hold_until_both_are_asked)
    with page.expect_request("**/gradcam"):
        ask_at(page, 40, 40, to=(100, 200))
    page.select_option("#against", label="blue")
    expect(page.locator("#caption")).to_contain_text("“red” rather than “blue” in")
    page.locator("#copy").click()
    expect(page.locator("#curl")).to_contain_text("-F against_index=2 -F 'box=40,40,100,200'")


def test_a_classifier_has_no_parts(browser: Browser, server: Server) -> None:
    with browser.new_page(base_url=server.url) as page:
        page.goto("/")
        upload(page, Image.new("RGB", (20, 20)))
        expect(page.locator("#parts-view")).to_be_hidden()
        assert page.locator("[name=view]:checked").get_attribute("value") == "overlay"
