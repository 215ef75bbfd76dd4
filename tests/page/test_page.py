"""A person can do everything on the page, in a real browser with the real service."""

import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, Route, expect

from service.artifact.card import InputSpec
from service.imaging.decoding import ORIENTATION_TAG
from service.imaging.geometry import find_crop
from service.imaging.heatmap import AGAINST, FOR, place_on_picture
from service.imaging.saliency import normalize_cam, normalize_signed_cam
from tests.page.conftest import PATIENCE_MS, Watch
from tests.page.person import choose_view, find_pressed, read_classes, read_heat, upload
from tests.server import Server
from tests.service.quadrants_model import LABELS, encode, light
from tests.warm_process import start_worker

SEND_FILE = """([kind, name, bytes]) => {
  const files = new DataTransfer();
  files.items.add(new File([new Uint8Array(bytes)], name));
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: files, bubbles: true })
    : new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""
IS_IN_CLIPBOARD = "async (line) => line === (await navigator.clipboard.readText())"


def make_noise(width: int, height: int) -> Image.Image:
    """A picture with detail in each quarter."""
    pixels = np.random.default_rng(5).integers(0, 255, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def test_an_uploaded_picture_shows_its_classes_their_bars_and_the_time_of_each_stage(
    page: Page,
) -> None:
    upload(page, light(3))
    assert LABELS[3] == read_classes(page)[0] == find_pressed(page)
    assert set(LABELS) == set(read_classes(page))
    expect(page.locator("#classes .share").first).to_contain_text("%")
    expect(page.locator("#caption")).to_have_text(f"Evidence for “{LABELS[3]}”")
    expect(page.locator("#origin")).to_have_text("Grad-CAM at layer grid")
    stages = page.locator("#timings dt").all_text_contents()
    assert stages == ["decode", "queue", "inference", "render", "total"]


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_a_picture_can_be_pasted_and_dropped(page: Page, kind: str) -> None:
    page.evaluate(SEND_FILE, [kind, "sent.png", list(encode(light(1)))])
    expect(page.locator("#picture")).to_have_attribute("alt", "sent.png")
    assert LABELS[1] == find_pressed(page)


def test_an_example_needs_one_click(page: Page) -> None:
    page.locator("#welcome-examples button").first.click()
    expect(page.locator("#classes li")).to_have_count(len(LABELS))


def test_clicking_a_class_shows_its_own_map_without_another_request(page: Page) -> None:
    upload(page, make_noise(64, 64))
    first, requests = read_heat(page), []
    page.on("request", lambda request: requests.append(request.url))
    second = read_classes(page)[1]
    page.locator("#classes button").nth(1).click()
    assert second == find_pressed(page)
    assert (read_heat(page) != first).any()
    assert requests == []


def test_how_to_read_an_answer_stays_at_hand(page: Page) -> None:
    hint = page.locator("#hint dl")
    expect(hint).to_be_visible()
    upload(page, light(3, (80, 40)))
    expect(hint).to_be_hidden()
    page.locator("#hint summary").click()
    expect(hint).to_contain_text("Cool parts were ignored")
    upload(page, light(3, (32, 32)), "whole.png")
    expect(hint).to_be_visible()


def test_what_the_model_does_not_see_is_said(page: Page) -> None:
    note = page.get_by_text("The model sees the bright part only.")
    upload(page, light(3, (32, 32)), "whole.png")
    expect(note).to_be_hidden()
    upload(page, light(3, (80, 40)), "wide.png")
    expect(note).to_be_visible()


def test_words_say_where_the_hottest_place_is(page: Page) -> None:
    picture = light(3, (96, 96), level=250)
    picture.paste((120, 120, 120), (0, 0, 48, 48))  # a weaker light at the upper left
    upload(page, picture)
    expect(page.locator("#place")).to_contain_text(
        "The strongest evidence lies in the lower right."
    )


def test_a_map_can_be_checked_and_the_next_class_clears_the_verdict(page: Page) -> None:
    upload(page, light(1, level=90))
    page.locator("#check").click()
    verdict = page.locator("#verdict")
    expect(verdict).to_contain_text("Blurring the hottest fifth of the picture")
    expect(verdict).to_contain_text("Blurring the coldest fifth")
    page.locator("#classes button").nth(1).click()
    expect(verdict).to_have_text("")


def test_an_empty_map_has_nothing_to_check(page: Page) -> None:
    upload(page, light(0, level=0))
    page.locator("#check").click()
    expect(page.locator("#verdict")).to_have_text("The map is empty, so there is nothing to check.")


@pytest.mark.parametrize("size", [(300, 200), (41, 97)])
@pytest.mark.parametrize("view", ["overlay", "signed"])
def test_the_page_draws_the_same_map_as_the_service(
    page: Page, site: Server, size: tuple[int, int], view: str
) -> None:
    picture = make_noise(*size)
    upload(page, picture)
    choose_view(page, view)
    answer = site.client.post(
        "/gradcam", files={"image": encode(picture)}, headers={"accept": "application/json"}
    ).json()
    cam = np.array(answer["explanations"][0]["cam"], np.float32)
    card = site.client.get("/models/colours").json()["versions"][-1]["card"]
    spec = InputSpec(**card["input"])
    layer = read_heat(page)  # (H, W, 4)
    height, width = layer.shape[:2]
    crop = find_crop(size, spec).scale(width / size[0], height / size[1])
    normalize = normalize_signed_cam if view == "signed" else normalize_cam
    heat = place_on_picture(normalize(cam, spec.height, spec.width), crop, (width, height))
    assert np.abs(np.abs(heat) * 255 - layer[..., 3]).max() <= 1
    if view == "signed":
        strong = np.abs(heat) > 0.9
        expected = np.where(heat[strong][:, None] > 0, FOR, AGAINST)
        assert np.abs(expected - layer[strong][:, :3].astype(int)).max() <= 1


def test_the_slider_sets_the_opacity_of_the_map(page: Page) -> None:
    upload(page, light(0))
    page.locator("#opacity").fill("0.25")
    assert page.locator("#heat").evaluate("heat => getComputedStyle(heat).opacity") == "0.25"
    expect(page.locator("#opacity-value")).to_have_text("25 %")


def test_a_class_can_be_compared_with_another(page: Page) -> None:
    upload(page, make_noise(64, 64))
    target, rival = read_classes(page)[:2]
    choose_view(page, "signed")
    before = read_heat(page)
    page.select_option("#against", label=rival)
    expect(page.locator("#caption")).to_have_text(
        f"Evidence for and against “{target}” rather than “{rival}”"
    )
    assert (read_heat(page) != before).any()
    page.select_option("#against", value="")
    expect(page.locator("#caption")).not_to_contain_text("rather")
    assert (read_heat(page) == before).all()


def test_any_other_class_can_be_explained(page: Page) -> None:
    upload(page, light(0))
    page.select_option("#other", label=LABELS[2])
    expect(page.locator("#classes [aria-pressed=true] .label")).to_have_text(LABELS[2])


def test_the_caption_says_that_a_map_is_empty(page: Page) -> None:
    upload(page, Image.new("RGB", (32, 32)))
    expect(page.locator("#caption")).to_contain_text("the map is empty")
    assert read_heat(page)[..., 3].max() == 0
    expect(page.locator("#box")).to_be_hidden()


def test_the_box_surrounds_the_bright_part_and_can_be_hidden(page: Page) -> None:
    upload(page, light(3, (320, 320)))
    stage, box = page.locator("#stage").bounding_box(), page.locator("#box").bounding_box()
    assert stage
    assert box
    assert box["x"] == pytest.approx(stage["x"] + stage["width"] / 2, abs=3)
    assert box["y"] == pytest.approx(stage["y"] + stage["height"] / 2, abs=3)
    page.locator("#show-box").uncheck()
    expect(page.locator("#box")).to_be_hidden()


def test_a_digit_can_be_drawn_for_a_model_that_reads_digits(page: Page) -> None:
    expect(page.locator("#draw")).to_be_hidden()
    page.select_option("#model", "gray/1")
    page.locator("#draw").click()
    pad = page.locator("#pad").bounding_box()
    assert pad
    page.mouse.move(pad["x"] + 0.6 * pad["width"], pad["y"] + 0.2 * pad["height"])
    page.mouse.down()
    page.mouse.move(pad["x"] + 0.9 * pad["width"], pad["y"] + 0.4 * pad["height"], steps=4)
    page.mouse.up()
    expect(page.locator("#classes [aria-pressed=true] .label")).to_have_text(LABELS[1])
    page.locator("#clear").click()
    expect(page.locator("#result")).to_be_hidden()


def test_a_file_that_is_no_picture_shows_the_error_of_the_service(page: Page) -> None:
    page.set_input_files(
        "#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture at all"}
    )
    expect(page.locator("#error")).to_contain_text("JPEG")
    expect(page.locator("#result")).to_be_hidden()
    upload(page, light(2))
    expect(page.locator("#error")).to_be_hidden()


def test_the_service_draws_formats_that_the_browser_can_not_show(page: Page) -> None:
    upload(page, light(2, (50, 40)), "scan.tiff", "TIFF")
    assert LABELS[2] == find_pressed(page)
    assert page.locator("#picture").evaluate("i => [i.naturalWidth, i.naturalHeight]") == [50, 40]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_rotated_picture_is_shown_as_the_service_sees_it(page: Page, kind: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    data = encode(light(0, (60, 40)), kind, exif=exif)
    page.set_input_files("#file", {"name": "turned", "mimeType": "", "buffer": data})
    expect(page.locator("#classes [aria-pressed=true] .label")).to_have_text(LABELS[1])
    size = page.locator("#picture").evaluate("i => [i.naturalWidth, i.naturalHeight]")
    assert size == [40, 60]


def test_another_model_explains_the_same_picture(page: Page) -> None:
    upload(page, light(1))
    expect(page.locator("#model")).to_have_value("colours/2")
    with page.expect_response("**/gradcam") as response:
        page.select_option("#model", "colours/1")
    answer = response.value.json()
    assert (answer["model"], answer["version"]) == ("colours", "1")
    expect(page.locator("#classes li")).to_have_count(len(LABELS))


def test_a_picture_that_takes_the_service_long_to_draw_does_not_replace_the_next_one(
    page: Page,
) -> None:
    drawings: list[Route] = []

    def hold_drawings(route: Route) -> None:
        if route.request.headers["accept"] == "image/png":
            drawings.append(route)
        else:
            route.continue_()

    page.route("**/gradcam", hold_drawings)
    scan = FilePayload(name="scan.tiff", mimeType="", buffer=encode(light(2, (50, 40)), "TIFF"))
    with page.expect_request(lambda request: request.headers.get("accept") == "image/png"):
        page.set_input_files("#file", [scan])
    with page.expect_event("requestfailed"):  # the page no longer wants the drawing
        upload(page, light(1, (32, 32)))
    assert len(drawings) == 1
    assert page.locator("#picture").evaluate("i => [i.naturalWidth, i.naturalHeight]") == [32, 32]
    assert LABELS[1] == find_pressed(page)


def test_a_doubtful_answer_comes_with_warnings_that_go_with_the_next_one(page: Page) -> None:
    warnings = page.get_by_role("status", name="Warnings")
    upload(page, Image.new("L", (28, 28)))
    page.select_option("#model", "gray/1")
    expect(warnings.locator("p")).to_have_count(2)
    expect(warnings).to_contain_text(
        "The model is not sure: the probability of its answer is 25.00 %"
    )
    expect(warnings).to_contain_text("The picture is unlike those that the model knows.")
    upload(page, light(1))
    expect(warnings.locator("p")).to_have_count(0)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("origin", ["a file", "an example", "a drawing"])
def test_the_copied_curl_command_returns_the_picture_shown(
    page: Page, folder: Path, origin: str
) -> None:
    if origin == "a file":
        name = 'it\'s my "cat"; really.png'
        (folder / name).write_bytes(encode(light(0)))
        page.set_input_files("#file", folder / name)
    elif origin == "an example":
        page.select_option("#model", "gray/1")
        page.locator("#welcome-examples button").first.click()
    else:
        page.select_option("#model", "gray/1")
        page.locator("#draw").click()
        page.locator("#pad").click()
    page.locator("#classes button").nth(2).click()
    page.select_option("#against", index=1)
    expect(page.locator("#caption")).to_contain_text("rather than")
    page.locator("#copy").click()
    expect(page.locator("#curl")).to_be_visible()
    command = page.locator("#curl").inner_text()
    page.wait_for_function(IS_IN_CLIPBOARD, arg=command)
    result = subprocess.run(
        ["sh", "-c", f"{command} -sS -w '%{{http_code}}'"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert result.stdout == "200", result.stderr + command
    with Image.open(folder / "heatmap.png") as picture:
        assert picture.format == "PNG"


def test_the_downloaded_picture_is_drawn_by_the_service_and_holds_its_origin(page: Page) -> None:
    upload(page, light(1))
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == "heatmap.png"
    with Image.open(io.BytesIO(Path(download.value.path()).read_bytes())) as picture:
        assert json.loads(picture.info["sightglass"])["model"] == "colours"


def test_everything_works_by_keyboard(page: Page) -> None:
    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        pytest.fail(f"Tab never reaches {selector}")

    tab_to("#model")
    tab_to("#file")
    tab_to("#welcome-examples button")
    page.keyboard.press("Enter")
    expect(page.locator("#classes li")).to_have_count(len(LABELS))
    tab_to("#classes button:not([aria-pressed=true])")
    label = page.evaluate("document.activeElement.title")
    page.keyboard.press("Space")
    assert label == find_pressed(page)
    assert label == page.evaluate("document.activeElement.title")
    tab_to("#against")
    tab_to("[name=view]")
    page.keyboard.press("ArrowRight")
    expect(page.locator("[name=view][value=signed]")).to_be_checked()
    tab_to("#show-lines")
    tab_to("#opacity")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#opacity-value")).to_have_text("65 %")
    tab_to("#download")
    tab_to("#copy")


def test_the_page_asks_for_a_key_only_if_needed_and_keeps_it_for_the_session(
    browser: Browser, quadrants_dir: Path, tmp_path: Path
) -> None:
    settings = {"api_keys": "open-sesame", "workers": 1}
    watch = Watch()
    with (
        start_worker(quadrants_dir, tmp_path, **settings) as guarded,
        browser.new_context(base_url=guarded.url) as context,
    ):
        guarded.wait_ready()
        context.set_default_timeout(PATIENCE_MS)
        watch.follow(context)
        page = context.new_page()
        page.goto("/")
        expect(page.locator("#key")).to_be_focused()
        page.keyboard.type("a wrong one")
        page.keyboard.press("Enter")
        expect(page.locator("#key-error")).to_contain_text("does not know this key")
        page.locator("#key").fill("open-sesame")
        page.keyboard.press("Enter")
        expect(page.locator("#key-form")).to_be_hidden()
        upload(page, light(3))
        page.reload()
        expect(page.locator("#model")).to_be_enabled()
        upload(page, light(3))
        assert LABELS[3] == find_pressed(page)
        page.locator("#copy").click()
        expect(page.locator("#curl")).to_contain_text("$SIGHTGLASS_KEY")
        expect(page.locator("#curl")).not_to_contain_text("open-sesame")
    assert watch.errors == []


def test_the_page_needs_no_inline_style_or_script(site: Server) -> None:
    policy = site.client.get("/").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
