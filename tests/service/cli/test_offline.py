"""The commands `check` and `explain` work without a server."""

import asyncio
import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from service.__main__ import main
from service.cli.errors import CommandError
from service.cli.folder_report import explain_folder
from service.cli.offline import explain
from service.inference.explainer import Explainer
from service.parameters import ExplainOptions
from service.settings import Settings
from tests.attacks.picture_files import write_larger_avif
from tests.server import ROOT
from tests.service.quadrants_model import encode, light, write_model


def run(*arguments: object, models_dir: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service", *map(str, arguments)]
    environment = {"SIGHTGLASS_MODELS_DIR": str(models_dir), "PATH": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(encode(light(2, (300, 200))))
    return path


def test_check_reports_valid_models_and_exits_with_0(quadrants_dir: Path) -> None:
    result = run("check", quadrants_dir, models_dir=Path("nowhere"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1].split()[:5] == ["quadrants/1", "ready", "cpu", "4", "4x4"]


def test_check_exits_with_1_and_gives_the_reason_if_a_model_is_invalid(tmp_path: Path) -> None:
    write_model(tmp_path / "good" / "1" / "model.onnx")
    write_model(tmp_path / "bad" / "1" / "model.onnx")
    (tmp_path / "bad" / "2").mkdir()
    (tmp_path / "bad" / "2" / "model.onnx").write_bytes(b"no model")
    result = run("check", models_dir=tmp_path)
    assert result.returncode == 1
    states = [line.split()[:2] for line in result.stdout.splitlines()[1:4]]
    assert states == [["bad/1", "ready"], ["bad/2", "FAILED"], ["good/1", "ready"]]
    assert "bad/2/model.onnx can't be read as an ONNX file" in result.stdout


def test_texts_of_a_model_file_neither_control_the_terminal_nor_fill_it(
    tmp_path: Path, picture: Path
) -> None:
    escape = "\x1b]0;owned\x07"
    labels = [f"{escape}{label}" + "a" * 900 for label in "abcd"]
    metrics = {"pictures": escape + "a" * 5000}
    write_model(tmp_path / "wild" / "1" / "model.onnx", labels=labels, metrics=metrics)
    for command in (["check"], ["explain", picture, "-o", tmp_path / "heatmap.png"]):
        result = run(*command, models_dir=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "?]0;owned?" in result.stdout
        assert len(result.stdout) < 1000


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_check_waits_for_no_pipe_and_reads_no_device_to_its_end(tmp_path: Path) -> None:
    for name in ("device", "pipe"):
        (tmp_path / name / "1").mkdir(parents=True)
    (tmp_path / "device" / "1" / "model.onnx").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe" / "1" / "model.onnx")
    result = run("check", models_dir=tmp_path)
    assert result.returncode == 1
    assert "device/1/model.onnx is a device; expected a regular file." in result.stdout
    assert "pipe/1/model.onnx is a pipe; expected a regular file." in result.stdout


def test_check_of_a_folder_without_models_is_an_error(tmp_path: Path) -> None:
    result = run("check", tmp_path, models_dir=tmp_path)
    assert result.returncode == 1
    assert f"There is no model in {tmp_path}" in result.stderr
    missing = run("check", tmp_path / "missing", models_dir=tmp_path)
    assert missing.returncode == 1
    assert f"The model folder {tmp_path}/missing does not exist" in missing.stderr


def test_check_names_files_that_are_not_at_their_place(tmp_path: Path) -> None:
    write_model(tmp_path / "good" / "1" / "model.onnx")
    write_model(tmp_path / "good" / "v2" / "model.onnx")
    result = run("check", models_dir=tmp_path)
    assert result.returncode == 0
    assert f"{tmp_path}/good/v2/model.onnx is not served" in result.stdout.splitlines()[-1]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_explain_writes_the_picture_and_prints_the_label(
    quadrants_dir: Path, picture: Path, tmp_path: Path, suffix: str
) -> None:
    output = tmp_path / f"heat{suffix}"
    result = run("explain", picture, "-o", output, "--verify", models_dir=quadrants_dir)
    assert result.returncode == 0, result.stderr
    assert "quadrants/1: bottom left (100.0%)" in result.stdout
    assert "with the hottest fifth blurred: " in result.stdout
    with Image.open(output) as drawn:
        assert drawn.size == (300, 200)


def test_explain_accepts_the_parameters_of_the_http_call(
    quadrants_dir: Path, picture: Path, tmp_path: Path
) -> None:
    output = tmp_path / "heat.png"
    options = ("--target", "top left", "--against", "bottom left", "--view", "signed")
    result = run("explain", picture, "-o", output, *options, "--size", 64, models_dir=quadrants_dir)
    assert "the evidence for top left" in result.stdout, result.stderr
    with Image.open(output) as drawn:
        assert max(drawn.size) == 64
        assert '"against": "bottom left"' in drawn.text["sightglass"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--target", "top lft"], "did you mean one of: top left"),
        (["--size", "3"], "'size'"),
        (["--model", "other"], "There is no model 'other' here; there are: quadrants."),
    ],
)
def test_a_mistake_is_reported_in_one_sentence(
    quadrants_dir: Path, picture: Path, tmp_path: Path, options: list[str], sentence: str
) -> None:
    result = run(
        "explain", picture, "-o", tmp_path / "heat.png", *options, models_dir=quadrants_dir
    )
    assert result.returncode == 1
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_file_that_is_missing_or_no_picture_is_reported_in_one_sentence(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    text = tmp_path / "cat.jpg"
    text.write_text("I am not a cat.")
    for source, sentence in ((text, "not an image"), (tmp_path / "none.jpg", "can't be read")):
        result = run("explain", source, "-o", tmp_path / "heat.png", models_dir=quadrants_dir)
        assert (result.returncode, sentence in result.stderr) == (1, True), result.stderr
    result = run("explain", text, "-o", tmp_path / "heat.txt", models_dir=quadrants_dir)
    assert "must be a .png, .jpg or .webp file" in result.stderr


def test_explain_writes_a_report_and_a_table_of_all_pictures_in_a_folder(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for quarter, name in ((0, "a.png"), (3, "more/<b>.png")):
        (folder / name).write_bytes(encode(light(quarter)))
    (folder / "=broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_bytes(b"passed over")
    outputs = ("--report", tmp_path / "out.html", "--csv", tmp_path / "out.csv")
    result = run("explain", folder, *outputs, models_dir=quadrants_dir)
    assert result.returncode == 1, result.stderr
    assert "3 pictures, 1 of them could not be explained" in result.stdout
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == ["'=broken.png", "a.png", "more/<b>.png"]
    assert [row["class"] for row in rows] == ["", "top left", "bottom right"]
    assert "accepted format" in rows[0]["error"]
    page = (tmp_path / "out.html").read_text()
    assert page.count("<tr>") == 4
    assert page.count("data:image/jpeg;base64,") == 2
    assert "more/&lt;b&gt;.png" in page
    assert "<b>" not in page


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_whatever_one_file_causes_the_others_are_explained(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"pictures \xff")
    folder.mkdir()
    (folder / os.fsdecode(b"a\xff.png")).write_bytes(encode(light(0)))
    (folder / "b.avif").write_bytes(write_larger_avif((9000, 7000), (64, 64)))
    with (folder / "c.png").open("wb") as file:
        file.truncate(300 << 30)
    (folder / "d.png").write_bytes(encode(light(3)))
    outputs = ("--report", folder / "out.html", "--csv", folder / "out.csv")
    result = run("explain", folder, *outputs, models_dir=quadrants_dir)
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.count("4 pictures, 2 of them could not be explained") == 2
    with (folder / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == ["a\ufffd.png", "b.avif", "c.png", "d.png"]
    assert [row["class"] for row in rows] == ["top left", "", "", "bottom right"]
    assert "322122547200 bytes, but at most 10485760 are accepted" in rows[2]["error"]
    page = (folder / "out.html").read_text("utf-8")
    assert "4 pictures in pictures \ufffd" in page
    assert page.endswith("</html>\n")
    children = subprocess.run(["ps", "-A", "-o", "args"], capture_output=True, text=True)
    assert str(tmp_path) not in children.stdout, "a process outlives the command"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such files")
def test_one_picture_has_the_limits_of_the_server(quadrants_dir: Path, tmp_path: Path) -> None:
    sparse, larger = tmp_path / "sparse.png", tmp_path / "larger.avif"
    with sparse.open("wb") as file:
        file.truncate(300 << 30)
    larger.write_bytes(write_larger_avif((9000, 7000), (64, 64)))
    sentence = "at most 10485760 are accepted"
    for path, expected in ((sparse, sentence), (Path("/dev/zero"), sentence), (larger, "image")):
        result = run("explain", path, "-o", tmp_path / "heat.png", models_dir=quadrants_dir)
        assert (result.returncode, len(result.stderr.splitlines())) == (1, 1), result.stderr
        assert expected in result.stderr
    odd = tmp_path / os.fsdecode(b"h\xff.png")
    shown = tmp_path / "picture.png"
    shown.write_bytes(encode(light(2)))
    result = run("explain", shown, "-o", odd, models_dir=quadrants_dir)
    assert (result.returncode, odd.exists()) == (0, True), result.stderr
    nowhere = tmp_path / "nowhere" / "heat.png"
    result = run("explain", shown, "-o", nowhere, models_dir=quadrants_dir)
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1), result.stderr
    assert "can't be written" in result.stderr


def test_a_picture_that_takes_too_long_is_a_row_with_its_error(
    quadrants_dir: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(Explainer, "draw", hang)
    settings = Settings.model_validate(
        {"models_dir": quadrants_dir, "request_timeout_ms": 50, "device": "cpu"}
    )
    options = ExplainOptions.model_validate({})
    outputs = (None, tmp_path / "out.csv")
    assert explain_folder(picture, options, outputs, settings) == (1, 1)
    assert "took longer than 200 ms" in (tmp_path / "out.csv").read_text()
    with pytest.raises(CommandError, match="took longer than 50 ms"):
        explain(picture, options, "image/png", settings)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_check_reports_names_that_are_no_text(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"models\xff")
    write_model(odd / "good" / "1" / "model.onnx")
    write_model(odd / os.fsdecode(b"b\xff") / "1" / "model.onnx")
    (odd / "good" / "2").mkdir()
    with (odd / "good" / "2" / "model.onnx").open("wb") as file:
        file.truncate(300 << 30)
    result = run("check", odd, models_dir=odd)
    assert "Traceback" not in result.stderr, result.stderr
    assert result.returncode == 1
    assert "good/1  ready" in result.stdout
    assert "good/2  FAILED" in result.stdout


def test_a_mistake_empties_no_earlier_report(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("of last week")
    outputs = ("--report", tmp_path / "out.html", "--csv", tmp_path / "out.csv")
    result = run("explain", picture, *outputs, models_dir=tmp_path)
    assert result.returncode == 1
    assert "There is no model here" in result.stderr
    assert (tmp_path / "out.csv").read_text() == "of last week"
    assert not (tmp_path / "out.html").exists()


@pytest.mark.parametrize(
    "arguments", [(), ("-o", "heat.png"), ("-o", "heat.png", "--csv", "out.csv")]
)
def test_explain_says_which_outputs_a_folder_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "argv", ["service", "explain", str(tmp_path), *arguments])
    with pytest.raises(SystemExit, match="--report FILE, --csv FILE or both for a folder"):
        main()
