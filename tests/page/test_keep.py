"""What a person can keep, compare and share."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import FilePayload, Page, expect

from tests.page.conftest import MODELS
from tests.page.person import choose_view, find_pressed, read_heat, upload
from tests.server import Server
from tests.service.quadrants_model import LABELS, encode, light
from tests.warm_process import start_worker

LOADED_PARTS = "performance.getEntriesByType('resource').map((e) => [e.name, e.encodedBodySize])"


def save(page: Page, button: str) -> str:
    """Click a button that saves a text."""
    with page.expect_download() as download:
        page.locator(button).click()
    return Path(download.value.path()).read_text()


def test_the_report_is_one_page_with_everything_about_the_answer(page: Page, folder: Path) -> None:
    upload(page, light(1), "<img src=x onerror=alert(1)>.png")
    page.locator("#check").click()
    expect(page.locator("#verdict")).to_contain_text("Blurring the hottest fifth of the picture")
    text = save(page, "#report")
    assert "<script" not in text
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    kept = page.context.browser.new_page()  # type: ignore[union-attr]
    (folder / "report.html").write_text(text)
    kept.goto((folder / "report.html").as_uri())
    main = kept.locator("main")
    for part in (
        LABELS[1],
        "Blurring the hottest fifth of the picture",
        "Lights <i>in</i> colour",
        "UTC",
    ):
        expect(main).to_contain_text(part)
    expect(main).to_contain_text("<img src=x onerror=alert(1)>.png")
    expect(kept.locator("img")).to_have_count(3)
    sizes = kept.locator("img").evaluate_all("all => all.map((image) => image.naturalWidth)")
    assert min(sizes) > 0
    kept.close()


def test_an_address_brings_back_the_example_its_class_and_the_settings(page: Page) -> None:
    page.locator("#welcome-examples button").nth(1).click()
    expect(page.locator("#top-label")).to_have_text(LABELS[2])
    page.locator("#classes button").nth(2).click()
    choose_view(page, "signed")
    label, heat = find_pressed(page), read_heat(page)
    other = page.context.new_page()
    other.goto(page.evaluate("location.href"))  # `page.url` may not know it yet
    expect(other.locator("#classes [aria-pressed=true] .label")).to_have_text(label)
    assert (read_heat(other) == heat).all()


@pytest.mark.parametrize(
    "address", ["#model=nobody/1&example=99&opacity=<b>&view=x&target=1e9", "#%ff&example=-1"]
)
def test_an_address_with_nonsense_shows_the_first_visit(page: Page, address: str) -> None:
    other = page.context.new_page()
    other.goto(f"/{address}")
    expect(other.locator("#welcome-examples button").first).to_be_visible()
    expect(other.locator("#model")).to_have_value("colours/2")


def test_this_visit_shows_an_earlier_answer_again_without_a_request(page: Page) -> None:
    upload(page, light(0), "first.png")
    upload(page, light(3), "second.png")
    page.route("**/gradcam", lambda route: route.abort())
    page.locator("#history-list button").nth(1).click()
    expect(page.locator("#top-label")).to_have_text(LABELS[0])
    expect(page.locator("#picture")).to_have_attribute("alt", "first.png")


def test_the_picture_can_carry_its_label_and_legend(page: Page) -> None:
    upload(page, light(1, (300, 200)))
    page.locator("#with-legend").check()
    with page.expect_download() as download:
        page.locator("#download").click()
    with Image.open(io.BytesIO(Path(download.value.path()).read_bytes())) as picture:
        assert picture.size[0] == 720
        assert picture.size[1] > 480
        strip = np.asarray(picture.convert("L"))[480:]
    assert strip.min() < 80


def test_many_pictures_become_a_gallery_a_table_and_a_page(page: Page) -> None:
    files = [
        FilePayload(name=f"{name}.png", mimeType="image/png", buffer=data)
        for name, data in (
            ("=1", encode(light(0))),
            ("dark", encode(Image.new("L", (28, 28)))),
            ("broken", b"no picture"),
        )
    ]
    page.select_option("#model", "gray/1")
    page.set_input_files("#file", files)
    workbench = page.locator("#workbench")
    expect(workbench.get_by_role("status")).to_have_text(
        "2 of 3 pictures are explained. 1 could not be."
    )
    expect(workbench.locator("li")).to_have_count(3)
    rows = list(csv.DictReader(io.StringIO(save(page, "text=Download CSV").lstrip("\ufeff"))))
    found = {row["picture"]: row for row in rows}
    assert found["'=1.png"]["class"] == LABELS[0]
    assert "low_confidence" in found["dark.png"]["warnings"]
    assert found["broken.png"]["error"]
    text = save(page, "#workbench >> text=Download report")
    assert text.count("<tr>") == 4
    workbench.get_by_label("only with warnings").check()
    expect(workbench.locator("li")).to_have_count(1)
    workbench.locator("li button").click()
    expect(page.locator("#picture")).to_have_attribute("alt", "dark.png")


def test_a_part_can_be_taken_away_and_both_answers_compared(page: Page) -> None:
    upload(page, light(3, (320, 320), level=90))
    page.locator("#compare").click()
    captions = page.locator(".sides .caption")
    expect(captions.nth(1)).to_contain_text("without the box")
    expect(page.locator("#workbench .lead")).to_contain_text(f"“{LABELS[3]}” goes from")
    page.get_by_label("Right: picture").select_option("without the upper left")
    expect(page.locator("#workbench .lead")).to_contain_text(f"“{LABELS[3]}” keeps")
    page.get_by_label("Right: model").select_option("colours/1")
    expect(page.locator("#workbench .lead")).to_contain_text("Left: ")
    page.locator(".sides .stage").first.scroll_into_view_if_needed()
    stage = page.locator(".sides .stage").first.bounding_box()
    assert stage
    page.mouse.move(stage["x"] + 0.5 * stage["width"], stage["y"] + 0.5 * stage["height"])
    page.mouse.down()
    page.mouse.move(stage["x"] + 0.9 * stage["width"], stage["y"] + 0.9 * stage["height"], steps=3)
    page.mouse.up()
    expect(captions.nth(1)).to_contain_text("without what you mark")


def test_a_colour_means_the_same_on_both_sides_of_a_comparison(page: Page) -> None:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[32:, 32:] = 200  # the whole of the last quarter
    pixels[:16, :16] = 100  # a quarter of the first one
    upload(page, Image.fromarray(pixels).convert("RGB"))
    page.locator("#compare").click()
    page.get_by_label("Right: class").fill(LABELS[0])
    page.get_by_label("Right: class").press("Enter")
    scale = page.locator("#workbench > p").first
    expect(scale).to_contain_text("The right map is weaker: its maximum is 50.0 %")
    left, right = "[aria-label=Left] canvas[role=img]", "[aria-label=Right] canvas[role=img]"
    assert read_heat(page, left)[..., 3].max() == 255
    assert abs(int(read_heat(page, right)[..., 3].max()) - 128) <= 2

    page.get_by_label("Right: model").select_option("many/1")
    expect(scale).to_contain_text("The left map is more spread out")
    assert read_heat(page, right)[..., 3].max() == 255
    assert 40 < read_heat(page, left)[..., 3].max() < 100  # a quarter, but for resizing
    lines = "[aria-label=Left] canvas:not([role], .ground)"
    assert read_heat(page, lines)[..., 3].max() > 0


def test_the_page_weighs_less_than_40_kb(page: Page, site: Server) -> None:
    page_bytes = int(site.client.get("/").headers["content-length"])
    loaded = dict(page.evaluate(LOADED_PARTS))
    parts = {url: size for url, size in loaded.items() if "/page/" in url}
    assert len(parts) > 10
    assert page_bytes + sum(parts.values()) < 40_000
    assert len(MODELS["colours/2"]["examples"]) == 2


def test_a_frame_is_allowed_only_for_the_sites_that_a_setting_names(
    site: Server, quadrants_dir: Path, tmp_path: Path
) -> None:
    assert site.client.get("/embed").status_code == 404
    ancestors = "https://a.example,https://*.b.example"
    with start_worker(quadrants_dir, tmp_path, workers=1, frame_ancestors=ancestors) as server:
        server.wait_ready()
        policy = server.client.get("/embed").headers["content-security-policy"]
        assert policy.endswith("frame-ancestors https://a.example https://*.b.example")
        assert "frame-ancestors 'none'" in server.client.get("/").headers["content-security-policy"]
