"""Runs an attack against a server of its own."""

from pathlib import Path

from tests.attacks.attack import Attack, find_missed
from tests.attacks.watch import Observed, watch
from tests.server import start_server
from tests.service.quadrants_model import write_model
from tests.warm_process import start_worker


def run_attack(
    attack: Attack, folder: Path, scale: float, *, launched: bool = False
) -> tuple[Observed, list[str]]:
    """Run an attack. Return what was observed, and a sentence for each bound that was missed.

    `launched` starts the server as users do, with launcher and supervisor.
    """
    models = folder / "models"
    write_model(models / "quadrants" / "1" / "model.onnx")
    start = start_server if launched else start_worker
    with start(models, folder, **attack.settings) as server:
        server.wait_ready()
        with watch(server, **attack.headers) as observed:
            seen = attack.run(server, scale)
        if not server.is_running():
            seen.append("the server ended")
    return observed, find_missed(attack, observed, seen)
