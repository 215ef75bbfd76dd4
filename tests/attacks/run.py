"""Runs an attack against a server of its own."""

from pathlib import Path
from typing import NamedTuple

from tests.attacks.attack import MAX_LIVEZ_P99, Attack, find_missed
from tests.attacks.watch import Observed, watch
from tests.service.quadrants_model import write_model
from tests.warm_process import start_worker


class Form(NamedTuple):
    """How an attack is run."""

    scale: float  # the share of its full size
    max_livez_p99: float  # seconds


# Other tests run beside the short form, so there only a loop that really stands still is a fault.
SHORT = Form(0.1, 2.0)
FULL = Form(1.0, MAX_LIVEZ_P99)


def run_attack(attack: Attack, folder: Path, form: Form) -> tuple[Observed, list[str]]:
    """Run an attack. Return what was observed, and a sentence for each bound that was missed."""
    models = folder / "models"
    write_model(models / "quadrants" / "1" / "model.onnx")
    settings = {
        name: value() if callable(value) else value for name, value in attack.settings.items()
    }
    with start_worker(models, folder, **settings) as server:
        server.wait_ready()
        with watch(server, **attack.headers) as observed:
            seen = attack.run(server, form.scale)
        if not server.is_running():
            seen.append("the server ended")
    return observed, find_missed(attack, observed, seen, form.max_livez_p99)
