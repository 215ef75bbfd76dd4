"""The documents tell the truth: their commands run and answer as shown, their links lead somewhere.

`python -m tests.walkthrough docs/quickstart.md` puts a document's answers in anew.
"""

import re
import runpy
import shlex
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image

from tests.contract.wire import connect, count_images, start_post
from tests.server import ROOT, Server, start_server, wait_until
from tests.walkthrough import BLOCK, PICTURE, Walk, alike, mask

PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "runs", ".cache", "node_modules"} & set(path.relative_to(ROOT).parts)
)
PYTHON = (ROOT / "docs" / "python.md").read_text()
OWN_MODEL = (ROOT / "docs" / "your-own-model.md").read_text()
ADDRESS = "http://127.0.0.1:3000"
LABEL = re.compile("Forest|Residential|River")  # after one epoch, any may be the most probable
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def anchor(heading: str) -> str:
    """What a heading is called in a link, as GitHub has it."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower().replace("`", ""))
    return kept.replace(" ", "-")


def find_anchors(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text())
    return {anchor(line.lstrip("#")) for line in text.splitlines() if line.startswith("#")}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file of the project, and to a heading in it where one is named."""
    lost = []
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (heading and heading not in find_anchors(target)):
            lost.append(link)
    assert lost == []


def test_every_page_of_docs_is_in_the_readme() -> None:
    """So that it can be found."""
    readme = (ROOT / "README.md").read_text()
    pages = {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")}
    assert {page for page in pages if f"]({page})" not in readme} == set()


@pytest.mark.parametrize("name", ["quickstart.md", "python.md"])
def test_every_command_answers_as_shown(name: str, bundled: Server, tmp_path: Path) -> None:
    """In order, in one folder, and the pictures shown are the ones that come."""
    text = (ROOT / "docs" / name).read_text()
    with ExitStack() as stack:
        for step in Walk(tmp_path, stack, running=bundled).steps(text):
            assert step.exit_code == 0, f"{step.code}{step.printed}"
            assert mask(step.expected or "") == mask(step.printed), step.code
    for picture in PICTURE.findall(text):
        if (tmp_path / picture).exists():
            assert alike(tmp_path / picture, ROOT / "docs" / "pictures" / picture)


def test_a_folder_becomes_a_service_as_shown(data_dir: Path, tmp_path: Path) -> None:
    """docs/your-own-model.md, with one epoch of few, smaller tiles; they are of the data sets."""
    assert (data_dir / "eurosat").exists()
    with ExitStack() as stack:
        fewer = {"head -60": "head -12", "128, 128, 128": "64, 64, 64"}
        for step in Walk(tmp_path, stack, quick=True, changes=fewer).steps(OWN_MODEL):
            assert step.exit_code == 0, f"{step.code}{step.printed}"
            expected, printed = (
                LABEL.sub("label", mask(said)) for said in (step.expected or "", step.printed)
            )
            assert expected == printed, step.code


def test_mistakes_say_what_the_table_says(tmp_path: Path) -> None:
    """docs/your-own-model.md: each row's command, its sentence, and exit code 2."""
    rows = re.findall(r"^\| `((?:fit|import) .*?)` \| (.*?) \|$", OWN_MODEL, re.MULTILINE)
    assert len(rows) > 8
    with ExitStack() as stack:
        walk = Walk(tmp_path, stack, quick=True)
        for block in BLOCK.finditer(OWN_MODEL):
            if block["code"].startswith(("# ", "python -c")):  # the two files, weights and labels
                walk.take(block)
        (tmp_path / "two.txt").write_text("Forest\nRiver\n")
        (tmp_path / "photos" / "River").mkdir(parents=True)
        for command, sentence in rows:
            printed, exit_code = walk.train(shlex.split(command))
            assert exit_code == 2, command
            assert printed.startswith(sentence.rstrip("…")), command


def test_the_client_in_ten_lines_waits_and_asks_again(quadrants_dir: Path, tmp_path: Path) -> None:
    """Eight at once, while another holds the only place: refused, and all answered in the end."""
    [code] = re.findall(r"# sightglass\.py\n(.*?)```", PYTHON, re.DOTALL)
    with start_server(quadrants_dir, tmp_path, max_queue_size=1) as server:
        server.wait_ready()
        (tmp_path / "sightglass.py").write_text(code.replace(ADDRESS, server.url))
        ask = runpy.run_path(str(tmp_path / "sightglass.py"))["ask"]
        picture = Image.open(ROOT / "docs" / "examples" / "parrot.jpg")
        picture.load()  # threads share it
        with ThreadPoolExecutor(8) as pool:
            with connect(server) as holder:
                start_post(holder, "/predict", 1)
                wait_until(lambda: count_images(server) == 1)
                asked = [pool.submit(ask, "/predict", picture, top_k=1) for _ in range(8)]
                wait_until(lambda: '"status":429' in server.read_log())
            answers = [answer.result().json() for answer in asked]
        assert len({str(answer["predictions"]) for answer in answers}) == 1
    assert len([line for line in code.splitlines() if line]) == 10
