"""The commands work end to end. A user's mistake prints one sentence and exits with code 2."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from training.__main__ import main
from training.data.decoded import store


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
    return main()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "nothere"], "There is no config 'nothere'"),
        (["fit", "lenet5", "--set", "epochs"], "key=value"),
        (
            ["fit", "lenet5", "--set", "epochs=ten"],
            "`epochs` must be an integer of at least 1, got",
        ),
        (["tune", "lenet5", "--set", "momentum=2"], "`momentum` must be a number of at least 0"),
        (["fit", "lenet5", "--set", "device=cuda:99"], "device=cuda:99 is not available"),
        (["layers", "lenet5", "--size", "0"], "`input.height` must be an integer of at least 1"),
        (["import", "resnet18", "--size", "-1"], "`input.height` must be an integer of at least 1"),
        (["evaluate", "nothere.pt"], "nothere.pt is not a readable checkpoint"),
        (["export", "nothere.pt"], "nothere.pt is not a readable checkpoint"),
        (["import", "squeezenet1_2"], "Did you mean squeezenet1_1"),
        (["import", "resnet18", "--weights", "nothere.npz"], "There is no weights file"),
        (["import", "tests.nothere:build", "--labels", ".gitignore"], "cannot be imported"),
    ],
)
def test_user_mistakes_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str],
    sentence: str,
) -> None:  # fmt: skip
    """The sentence is on stderr, without a traceback."""
    assert call(monkeypatch, *arguments) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "command", ["fit", "tune", "evaluate", "export", "import", "layers", "describe"]
)
def test_the_help_of_every_command_has_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """The example is a call of the same command."""
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, command, "--help")
    assert ended.value.code == 0
    assert f"example: python -m training {command} " in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_folder_without_a_test_split_is_measured_on_its_validation_split(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The terminal, the report and the card say so. The calibration claims nothing of it."""
    monkeypatch.setattr(store, "CACHE_FOLDER", tmp_path / "cache")
    for label, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200)), ("green", (0, 99, 0))):
        for split, count in (("train", 8), ("val", 3)):
            if (label, split) != ("green", "val"):
                (tmp_path / "set" / split / label).mkdir(parents=True)
                for i in range(count):
                    image = Image.new("RGB", (30 + i, 40 + count), colour)
                    image.save(tmp_path / "set" / split / label / f"{i}.png")
    config = tmp_path / "colours.py"
    config.write_text(
        "from training.config import Config\n"
        "from training.imaging.preprocessing import Input\n"
        f"CONFIG = Config('colours', 'lenet5', {str(tmp_path / 'set')!r}, "
        "Input('RGB', 28, 28, 28), options={'activation': 'relu'}, epochs=1, batch_size=8)\n"
    )
    run = tmp_path / "run"
    caution = "There is no test split, so the figures are from the validation split."
    missing = "No picture shows green, so its figures are not defined"
    assert call(monkeypatch, "fit", config, "--out", run) == 0
    assert call(monkeypatch, "evaluate", run / "best.pt", "--split", "test") == 2
    assert "no pictures in the split 'test', only in train, val" in capsys.readouterr().err
    assert call(monkeypatch, "evaluate", run / "best.pt") == 0
    said = capsys.readouterr().out
    assert caution in said
    assert missing in said
    assert caution in (run / "report-val" / "README.md").read_text()
    ways = ("--to", tmp_path / "tree", "--maps", 0, "--calibrate")
    assert call(monkeypatch, "export", run / "best.pt", *ways) == 0
    assert caution in capsys.readouterr().out
    page = (tmp_path / "tree" / "colours" / "1" / "report" / "README.md").read_text()
    assert f"- {caution}" in page
    assert f"- {missing}" in page
    assert "On the validation split, through this very file" in page


def test_fit_evaluate_and_export_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A small LeNet-5 in colour learns two labels and becomes a model file."""
    monkeypatch.setattr(store, "CACHE_FOLDER", tmp_path / "cache")
    for label, color in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        (tmp_path / "set" / label).mkdir(parents=True)
        for i in range(20):
            image = Image.new("RGB", (30 + i, 40), color)
            image.save(tmp_path / "set" / label / f"{i}.jpg")
    config = tmp_path / "colours.py"
    config.write_text(
        "from training.config import Config\n"
        "from training.imaging.preprocessing import Input\n"
        f"CONFIG = Config('colours', 'lenet5', {str(tmp_path / 'set')!r}, "
        "Input('RGB', 28, 28, 28), options={'activation': 'relu'}, epochs=6, batch_size=8)\n"
    )
    run = tmp_path / "run"
    assert call(monkeypatch, "fit", config, "--out", run) == 0
    assert call(monkeypatch, "evaluate", run / "best.pt") == 0
    assert "| accuracy | 1 |" in capsys.readouterr().out
    assert (run / "report-test" / "confusion.png").exists()
    ways = ("--calibrate", "--layer", "auto", "--maps", 4)
    assert call(monkeypatch, "export", run / "best.pt", "--to", tmp_path / "tree", *ways) == 0
    said = capsys.readouterr().out
    assert said.count("(taken)") == 1
    assert "temperature" in said
    assert (tmp_path / "tree" / "colours" / "1" / "model.onnx").exists()
