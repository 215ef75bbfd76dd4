"""The command `sightglass` as it is installed, run in a folder without the repository."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import service
from command.__main__ import NEEDS_TORCH, make_parser
from tests.package.wheel import write_installed_package
from tests.server import PATIENCE, ROOT
from training import __main__ as training

COMMANDS = (
    *("serve", "check", "explain", "pull", "push", "fit", "tune", "evaluate"),
    *("export", "import", "annotate", "describe", "layers", "completion"),
)
WITHOUT_TORCH = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else find(name, *rest)
from sightglass.__main__ import main
raise SystemExit(main())
"""


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTGLASS_")}
    return subprocess.run(
        arguments,
        cwd=folder,
        env=inherited | write_installed_package() | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_the_help_lists_all_commands_with_examples_and_there_is_a_version(tmp_path: Path) -> None:
    text = run(tmp_path, "sightglass", "--help").stdout
    for command in COMMANDS:
        assert f"\n    {command}" in text
    assert [shlex.split(line) for line in text.splitlines() if line.startswith("  sightglass ")]
    said = run(tmp_path, "sightglass", "--version").stdout
    assert said == f"sightglass {service.__version__}\n"
    assert "python -m" not in text
    _, runners = make_parser()
    assert set(NEEDS_TORCH) == {name for name, run in runners.items() if run is training.run}
    page = (ROOT / "docs" / "reference" / "commands.md").read_text()
    assert [command for command in COMMANDS if f"`sightglass {command}" not in page] == []


def test_a_training_command_without_torch_names_the_extra(tmp_path: Path) -> None:
    ran = run(tmp_path, sys.executable, "-c", WITHOUT_TORCH, "fit", "lenet5")
    assert (ran.returncode, ran.stderr) == (
        2,
        "The command fit needs torch, which is not installed. Install the extra: "
        'pip install "sightglass[training]"\n',
    )


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(run(tmp_path, "sightglass", "completion", "bash").stdout)
    [function] = [
        line.split()[-2] for line in script.read_text().splitlines() if line.startswith("complete ")
    ]
    words = (
        f"source {script}; COMP_WORDS=(sightglass %s); COMP_CWORD=1; {function}; "
        'echo "${COMPREPLY[@]}"'
    )
    assert run(tmp_path, "bash", "-c", words % "exp").stdout.split() == ["explain", "export"]


@pytest.mark.parametrize("own", [False, True])
def test_check_takes_the_bundled_models_unless_there_is_a_folder_of_models(
    own: bool, quadrants_dir: Path, tmp_path: Path
) -> None:
    if own:
        (tmp_path / "models").symlink_to(quadrants_dir)
    ran = run(tmp_path, "sightglass", "check", SIGHTGLASS_DEVICE="cpu")
    names = [line.split()[0] for line in ran.stdout.splitlines()[1:]]
    assert names == (["quadrants/1"] if own else ["efficientnet_lite0/1", "lenet5/1"])
