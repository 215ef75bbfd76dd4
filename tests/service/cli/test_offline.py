"""The commands that need no server."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.server import ROOT
from tests.service.quadrants import encode, light, write_model


def run(*arguments: object, models_dir: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service", *map(str, arguments)]
    environment = {"SIGHTGLASS_MODELS_DIR": str(models_dir), "PATH": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(encode(light(2, (300, 200))))
    return path


def test_check_reports_a_fit_tree_and_exits_with_0(quadrants_dir: Path) -> None:
    ran = run("check", quadrants_dir, models_dir=Path("nowhere"))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[1].split()[:5] == ["quadrants/1", "ready", "cpu", "4", "4x4"]


def test_check_exits_with_1_and_says_why_if_any_model_is_unfit(tmp_path: Path) -> None:
    write_model(tmp_path / "good" / "1" / "model.onnx")
    write_model(tmp_path / "bad" / "1" / "model.onnx")
    (tmp_path / "bad" / "2").mkdir()
    (tmp_path / "bad" / "2" / "model.onnx").write_bytes(b"no model")
    ran = run("check", models_dir=tmp_path)
    assert ran.returncode == 1
    verdicts = [line.split()[:2] for line in ran.stdout.splitlines()[1:4]]
    assert verdicts == [["bad/1", "ready"], ["bad/2", "FAILED"], ["good/1", "ready"]]
    assert "bad/2/model.onnx can't be read as an ONNX file" in ran.stdout


def test_check_of_an_empty_tree_is_a_fault(tmp_path: Path) -> None:
    ran = run("check", tmp_path, models_dir=tmp_path)
    assert ran.returncode == 1
    assert f"There is no model at {tmp_path}" in ran.stderr


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_explain_writes_the_picture_and_says_what_it_is(
    quadrants_dir: Path, picture: Path, tmp_path: Path, suffix: str
) -> None:
    output = tmp_path / f"heat{suffix}"
    ran = run("explain", picture, "-o", output, "--verify", models_dir=quadrants_dir)
    assert ran.returncode == 0, ran.stderr
    assert "quadrants/1: bottom left (100.0%)" in ran.stdout
    assert "without the hottest fifth" in ran.stdout
    with Image.open(output) as drawn:
        assert drawn.size == (300, 200)


def test_explain_takes_the_parameters_of_the_call(
    quadrants_dir: Path, picture: Path, tmp_path: Path
) -> None:
    output = tmp_path / "heat.png"
    wishes = ("--target", "top left", "--against", "bottom left", "--view", "signed")
    ran = run("explain", picture, "-o", output, *wishes, "--size", 64, models_dir=quadrants_dir)
    assert "why top left" in ran.stdout, ran.stderr
    with Image.open(output) as drawn:
        assert max(drawn.size) == 64
        assert '"against": "bottom left"' in drawn.text["sightglass"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        (["--target", "top lft"], "did you mean one of: top left"),
        (["--size", "3"], "'size' can't be"),
        (["--model", "other"], "There is no model 'other' here; there are: quadrants."),
    ],
)
def test_a_mistake_is_one_sentence(
    quadrants_dir: Path, picture: Path, tmp_path: Path, wishes: list[str], sentence: str
) -> None:
    ran = run("explain", picture, "-o", tmp_path / "heat.png", *wishes, models_dir=quadrants_dir)
    assert ran.returncode == 1
    assert sentence in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1


def test_a_picture_that_is_none_or_not_there_is_one_sentence(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    text = tmp_path / "cat.jpg"
    text.write_text("I am no cat.")
    for source, sentence in ((text, "no image"), (tmp_path / "none.jpg", "can't be read")):
        ran = run("explain", source, "-o", tmp_path / "heat.png", models_dir=quadrants_dir)
        assert (ran.returncode, sentence in ran.stderr) == (1, True), ran.stderr
    ran = run("explain", text, "-o", tmp_path / "heat.txt", models_dir=quadrants_dir)
    assert "end it in .png, .jpg or .webp" in ran.stderr
