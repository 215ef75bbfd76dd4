"""The page never falls silent and never loses a picture: busy, rejected, gone, no key, no model."""

from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.page.conftest import MODELS, PATIENCE_MS, Watch
from tests.page.person import find_pressed, read_classes, upload
from tests.service.quadrants_model import LABELS, encode, light, write_model
from tests.warm_process import start_worker

CALL = "**/gradcam"
REJECTION = '{"error":{"code":"overloaded","message":"The queue is full.","request_id":"1"}}'


def choose(page: Page, quarter: int, name: str = "picture.png") -> None:
    """Choose a file without waiting for the answer."""
    data = encode(light(quarter))
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": data})


def test_the_first_visit_explains_itself_and_offers_what_this_very_model_knows(page: Page) -> None:
    expect(page.locator("#welcome")).to_contain_text("which parts made it think so")
    expect(page.locator("#welcome-summary")).to_have_text(
        "Says which quarter of a picture is light."
    )
    expect(page.locator("#hint")).to_contain_text("the model's own confidence")
    expect(page.locator("#hint")).to_contain_text("Cool parts were ignored")
    cards = page.locator("#welcome-examples button")
    assert [example["title"] for example in MODELS["colours/2"]["examples"]] == [
        text.strip() for text in cards.all_text_contents()
    ]
    cards.first.click()
    expect(page.locator("#top-label")).to_have_text(LABELS[1])
    page.select_option("#model", "many/1")
    expect(page.locator("#examples button")).to_have_count(0)


def test_a_model_is_named_for_people_with_its_accuracy_and_doubts_a_click_away(page: Page) -> None:
    options = page.locator("#model option").all_inner_texts()
    assert options == ["Lights <i>in</i> colour", "colours / 1", "gray / 1", "many / 1"]
    page.locator("#about-open").click()
    about = page.locator("#about")
    for text in ("98.1 % of 2,000 pictures", "drawn quarters", "half of the maps are empty"):
        expect(about).to_contain_text(text)
    expect(about.locator("i")).to_have_count(0)  # texts of a card are never markup


def test_a_slow_answer_shows_that_the_model_is_busy(page: Page) -> None:
    def answer_late(route: Route) -> None:
        expect(page.locator("#viewport")).to_have_attribute("aria-busy", "true")
        expect(page.locator("#busy-text")).to_contain_text("The model is looking")
        route.continue_()

    page.route(CALL, answer_late)
    choose(page, 0)
    expect(page.locator("#top-label")).to_have_text(LABELS[0])
    expect(page.locator("#viewport")).to_have_attribute("aria-busy", "false")
    expect(page.locator("#busy-text")).to_have_text("")


def test_a_busy_service_is_asked_again_when_it_says_so(page: Page) -> None:
    asked: list[str] = []

    def reject_once(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            headers = {"retry-after": "2", "content-type": "application/json"}
            route.fulfill(status=429, headers=headers, body=REJECTION)
        else:
            route.continue_()

    page.clock.install(time=0)
    page.clock.pause_at(1000)  # from here on the page's time passes by `run_for` only
    page.route(CALL, reject_once)
    choose(page, 0)
    sentence = page.locator("#busy-text")
    expect(sentence).to_have_text("The service is busy. It is asked again in 2 s.")
    page.clock.run_for(999)
    expect(sentence).to_have_text("The service is busy. It is asked again in 2 s.")
    page.clock.run_for(1)
    expect(sentence).to_have_text("The service is busy. It is asked again in 1 s.")
    assert len(asked) == 1
    page.clock.run_for(1000)
    expect(page.locator("#top-label")).to_have_text(LABELS[0])
    assert len(asked) == 2
    expect(page.locator("#error")).to_be_hidden()


def test_a_rejected_picture_leaves_the_old_answer_in_place(page: Page) -> None:
    upload(page, light(2), "first.png")
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "", "buffer": b"no picture"})
    expect(page.locator("#error")).to_contain_text("JPEG")
    assert LABELS[2] == find_pressed(page)
    expect(page.locator("#picture")).to_have_attribute("alt", "first.png")
    page.locator("#classes button").nth(1).click()
    expect(page.locator("#error")).to_be_hidden()


def test_a_service_that_is_gone_is_asked_until_it_is_back(page: Page) -> None:
    page.context.set_offline(True)
    choose(page, 1)
    expect(page.locator("#error")).to_contain_text("The service does not answer")
    page.context.set_offline(False)
    expect(page.locator("#top-label")).to_have_text(LABELS[1])
    expect(page.locator("#error")).to_be_hidden()


def test_an_address_waits_for_its_model_though_another_one_is_ready(page: Page) -> None:
    states = ["loading", "ready"]

    def load_gray(route: Route) -> None:
        answer = route.fetch().json()
        gray = next(model for model in answer["models"] if model["name"] == "gray")
        gray["versions"][0]["state"] = states.pop(0) if states else "ready"
        route.fulfill(json=answer)

    other = page.context.new_page()
    other.route("**/models", load_gray)
    other.goto("/#model=gray/1&example=1")
    expect(other.locator("#top-label")).to_have_text(LABELS[1])
    expect(other.locator("#model")).to_have_value("gray/1")
    assert states == []


def test_a_picture_dropped_before_there_is_a_model_is_answered_afterwards(
    browser: Browser, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    with (
        start_worker(models, tmp_path, workers=1, model_poll_seconds=0.2) as empty,
        browser.new_context(base_url=empty.url) as context,
    ):
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto("/")
        expect(page.locator("#error")).to_contain_text("There is no model yet")
        choose(page, 3, "early.png")
        expect(page.locator("#caption")).to_contain_text("“early.png” is kept")
        write_model(models / "quadrants" / "1" / "model.onnx")
        expect(page.locator("#top-label")).to_have_text(LABELS[3])


def test_a_picture_dropped_before_the_key_is_answered_afterwards(
    browser: Browser, quadrants_dir: Path, tmp_path: Path
) -> None:
    watch = Watch()
    with (
        start_worker(quadrants_dir, tmp_path, api_keys="open-sesame", workers=1) as guarded,
        browser.new_context(base_url=guarded.url) as context,
    ):
        guarded.wait_ready()
        context.set_default_timeout(PATIENCE_MS)
        watch.follow(context)
        page = context.new_page()
        page.goto("/")
        expect(page.locator("#key")).to_be_focused()
        choose(page, 2)
        expect(page.locator("#caption")).to_contain_text("is kept")
        page.locator("#key").fill("open-sesame")
        page.keyboard.press("Enter")
        expect(page.locator("#top-label")).to_have_text(LABELS[2])
        check_that_the_docs_take_a_key(context)
    assert watch.errors == []


def check_that_the_docs_take_a_key(context: BrowserContext) -> None:
    docs = context.new_page()
    docs.goto("/docs")
    docs.locator("#authorize").click()
    docs.locator("#key").fill("a wrong one")
    docs.keyboard.press("Enter")
    expect(docs.locator("#key-answer")).to_contain_text("does not know this key")
    docs.locator("#key").fill("open-sesame")
    docs.keyboard.press("Enter")
    expect(docs.locator("#authorize")).to_have_text("Authorized. Change key")


def test_one_of_a_thousand_classes_is_found_by_typing(page: Page) -> None:
    page.select_option("#model", "many/1")
    upload(page, light(0))
    expect(page.locator("#other")).to_be_hidden()
    page.locator("#other-search").fill("kind")
    page.locator("#other-search").press("Enter")
    message = page.locator("#other-search").evaluate("field => field.validationMessage")
    assert message == "Which one: kind 4, kind 5, kind 6, kind 7, kind 8 …?"
    page.locator("#other-search").fill("kind 777")
    page.locator("#other-search").press("Enter")
    expect(page.locator("#classes [aria-pressed=true] .label")).to_have_text("kind 777")
    assert "kind 777" in read_classes(page)
    page.locator("#against-search").fill(LABELS[1])
    page.locator("#against-search").press("Enter")
    expect(page.locator("#caption")).to_contain_text(f"rather than “{LABELS[1]}”")
