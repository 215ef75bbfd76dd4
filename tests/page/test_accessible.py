"""The page, the docs and what is kept pass axe, and everything that the docs offer can be tried."""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, FilePayload, Page, expect

from tests.page.conftest import PATIENCE_MS
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}]
)
def test_no_state_of_the_page_and_the_docs_violates_wcag(
    browser: Browser, site: Server, axe: str, options: dict[str, Any], folder: Path
) -> None:
    found = {}
    with browser.new_context(base_url=site.url, bypass_csp=True, **options) as context:
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto("/")
        page.locator("#welcome-examples button").first.wait_for()
        found["first visit"] = find_violations(page, axe)
        upload(page, light(1))
        found["answer"] = find_violations(page, axe)
        with page.expect_download() as download:
            page.locator("#report").click()
        download.value.save_as(folder / "report.html")
        page.locator("#compare").click()
        expect(page.locator("#workbench .lead")).not_to_have_text("")
        found["comparison"] = find_violations(page, axe)
        page.locator("#about-open").click()
        found["about"] = find_violations(page, axe)
        page.goto("/docs#gradcam")
        page.locator("#gradcam form").wait_for()
        found["docs"] = find_violations(page, axe)
        page.goto((folder / "report.html").as_uri())
        found["report"] = find_violations(page, axe)
    assert {state: faults for state, faults in found.items() if faults} == {}


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
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") == 300


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
