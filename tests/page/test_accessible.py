"""The page and the docs can be used by everybody, on any screen, and all calls of the docs work."""

import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, FilePayload, Page, expect

from tests.page.conftest import PATIENCE_MS
from tests.page.layout import find_covered_controls, find_layout_faults, find_unreadable_texts
from tests.page.person import upload
from tests.server import Server
from tests.service.quadrants_model import encode, light

AXE = "axe-core@4.14.1"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = """async ([source, rules]) => {
  if (!window.axe) (0, eval)(source);
  const { violations } = await axe.run(document, { runOnly: rules });
  return violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`);
}"""
VALUES = {"name": "colours", "version": "1"}  # of path parameters


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, from npm."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "pack", AXE, "--json"]
    packed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    if packed.returncode:
        pytest.skip(f"npm can't get {AXE}: {packed.stderr[-200:]}")
    with tarfile.open(folder / json.loads(packed.stdout)[0]["filename"]) as package:
        source = package.extractfile("package/axe.min.js")
        assert source
        return source.read().decode()


def find_violations(page: Page, axe: str) -> list[str]:
    """What axe complains about."""
    return list(page.evaluate(RUN, [axe, RULES]))


PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
TWICE_AS_LARGE: dict[str, Any] = {  # a window of 1280 x 720 at 200 %
    "viewport": {"width": 640, "height": 360},
    "device_scale_factor": 2,
}
STATES = ("first visit", "answer", "comparison", "about", "docs")


def walk_through(context: BrowserContext) -> Iterator[tuple[str, Page]]:
    """Go through the states of the page and the docs."""
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto("/#model=gray/1")
    page.locator("#welcome-examples button").first.wait_for()
    yield "first visit", page
    upload(page, Image.new("L", (28, 28)))
    expect(page.locator("#warnings p")).to_have_count(2)
    yield "answer", page
    page.locator("#compare").click()
    expect(page.locator("#workbench .lead")).to_contain_text("%")
    yield "comparison", page
    page.locator("#about-open").click()
    yield "about", page
    page.goto("/docs#gradcam")
    page.locator("#gradcam form").wait_for()
    yield "docs", page


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"color_scheme": "dark"}, PHONE])
def test_no_state_of_the_page_and_the_docs_violates_wcag(
    browser: Browser, site: Server, axe: str, options: dict[str, Any]
) -> None:
    with browser.new_context(base_url=site.url, bypass_csp=True, **options) as context:
        found = {state: find_violations(page, axe) for state, page in walk_through(context)}
    assert found == {state: [] for state in STATES}


@pytest.mark.slow
def test_the_report_does_not_violate_wcag(page: Page, axe: str, folder: Path) -> None:
    upload(page, light(1))
    with page.expect_download() as download:
        page.locator("#report").click()
    download.value.save_as(folder / "report.html")
    assert page.context.browser
    with page.context.browser.new_context(bypass_csp=True) as other:
        kept = other.new_page()
        kept.goto((folder / "report.html").as_uri())
        assert find_violations(kept, axe) == []


@pytest.mark.parametrize("screen", [PHONE, TWICE_AS_LARGE], ids=["phone", "200 %"])
def test_nothing_is_cut_off_or_overlaps_on_a_small_screen(
    browser: Browser, site: Server, screen: dict[str, Any]
) -> None:
    with browser.new_context(base_url=site.url, **screen) as context:
        found = {state: find_layout_faults(page) for state, page in walk_through(context)}
    assert found == {state: [] for state in STATES}


@pytest.mark.parametrize("screen", [PHONE, TWICE_AS_LARGE], ids=["phone", "200 %"])
def test_the_picture_stays_on_a_small_screen_and_covers_no_control(
    browser: Browser, site: Server, screen: dict[str, Any]
) -> None:
    with browser.new_context(base_url=site.url, **screen) as context:
        states = walk_through(context)
        next(states)
        _, page = next(states)
        assert find_covered_controls(page) == []
        page.locator("#opacity").focus()
        expect(page.locator("#opacity")).to_be_in_viewport(ratio=1)
        expect(page.locator("#picture")).to_be_in_viewport(ratio=0.9)


@pytest.mark.parametrize(
    "look",
    [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"forced_colors": "active"}],
    ids=["light", "dark", "forced colours"],
)
def test_every_text_is_readable(browser: Browser, site: Server, look: dict[str, Any]) -> None:
    with browser.new_context(base_url=site.url, **look) as context:
        found = {state: find_unreadable_texts(page) for state, page in walk_through(context)}
    assert found == {state: [] for state in STATES}


def test_the_page_is_dark_where_the_system_is(page: Page) -> None:
    read_ground = "Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g))"
    assert page.evaluate(read_ground) > 200
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(read_ground) < 50


def test_forced_colours_leave_the_heat_and_show_what_is_chosen(page: Page) -> None:
    upload(page, light(1))
    page.emulate_media(forced_colors="active")
    chosen, other = (
        page.locator(f"#classes [aria-pressed={pressed}]").first for pressed in ("true", "false")
    )
    expect(chosen).to_have_css("outline-style", "solid")
    expect(other).to_have_css("outline-style", "none")
    expect(page.locator(":checked + span").first).to_have_css("outline-style", "solid")
    for kept in ("#stage", "#scale", ".sample"):
        expect(page.locator(kept)).to_have_css("forced-color-adjust", "none")
    bar = page.locator("#classes .bar").first.evaluate("e => getComputedStyle(e).backgroundColor")
    assert bar != page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_two_fingers_zoom_the_picture_and_not_the_page(browser: Browser, site: Server) -> None:
    with browser.new_context(base_url=site.url, **PHONE) as context:
        states = walk_through(context)
        next(states)
        _, page = next(states)
        frame = page.locator("#viewport").bounding_box()
        assert frame
        x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
        fingers = context.new_cdp_session(page)
        for kind, distances in (
            ("touchStart", [20]),
            ("touchStart", [20, 20]),
            *(("touchMove", [distance, distance]) for distance in range(20, 100, 4)),
            ("touchEnd", []),
        ):
            points = [
                {"x": x + (-1) ** i * far, "y": y, "id": i} for i, far in enumerate(distances)
            ]
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        expect(page.locator("#zoom-out")).to_be_enabled()
        assert page.evaluate("visualViewport.scale") == 1


def open_docs(context: BrowserContext) -> Page:
    """The interactive docs."""
    page = context.new_page()
    page.goto("/docs#gradcam")
    page.locator("#gradcam form").wait_for()
    return page


def test_the_docs_answer_gradcam_with_a_picture(context: BrowserContext) -> None:
    page = open_docs(context)
    data = encode(light(2, (300, 200)))
    page.set_input_files("#gradcam-image", {"name": "p.png", "mimeType": "", "buffer": data})
    page.locator("#gradcam-view").select_option("signed")
    page.locator("#gradcam button.primary").click()
    expect(page.locator("#gradcam .status")).to_contain_text("200")
    picture = page.locator("#gradcam .answer img")
    expect(picture).to_have_js_property("naturalWidth", 300)  # 0 until it is decoded
    expect(picture).to_be_visible()


@pytest.mark.slow
def test_every_call_of_the_docs_can_be_tried(context: BrowserContext, site: Server) -> None:
    document = site.client.get("/openapi.json").json()
    names = {o["operationId"] for methods in document["paths"].values() for o in methods.values()}
    page = open_docs(context)
    answered = {}
    for name in sorted(names - {"embed"}):
        call = page.locator(f"[id='{name}']")
        if not call.evaluate("call => call.open"):
            call.locator("> summary").click()
        call.locator("form").wait_for()  # made as soon as the browser says that it is open
        for field in call.locator(".field input[type=text][required]").all():
            wanted = (field.get_attribute("id") or "").removeprefix(f"{name}-")
            field.fill("look/base.css" if name == "part" else VALUES[wanted])
        for field in call.locator("input[type=file][required]").all():
            picture = FilePayload(name="p.png", mimeType="", buffer=encode(light(0)))
            field.set_input_files([picture])
        call.locator("form > button.primary").click()
        call.locator(".status").wait_for()
        answered[name] = call.locator(".status").inner_text()[:3]
    assert answered.pop("segment") == "400"  # all models of this site classify
    assert answered == dict.fromkeys(answered, "200")
