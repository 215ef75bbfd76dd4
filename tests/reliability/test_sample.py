"""A short run of each measurement, so that all keep working. `make reliability` runs them fully."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.fuzz import fuzz, make_requests
from tests.reliability.loss import find_nginx, make_quarters, start_nginx, stop_alone
from tests.reliability.malice import run_all_attacks
from tests.reliability.mutations import make_pictures
from tests.reliability.versions import deploy
from tests.server import LaunchedServer, Server, start_server


@pytest.fixture(scope="module")
def models(quadrants_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository for this module only."""
    return Path(shutil.copytree(quadrants_dir, tmp_path_factory.mktemp("own") / "models"))


@pytest.fixture(scope="module")
def own(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaunchedServer]:
    """A server that these tests mistreat and finally stop."""
    folder = tmp_path_factory.mktemp("reliability")
    with start_server(models, folder, model_poll_seconds=0.2, request_timeout_ms=6000) as server:
        server.wait_ready()
        yield server


def test_damaged_pictures_are_predicted_or_rejected_with_a_sentence(
    server: Server, tmp_path: Path
) -> None:
    make = make_requests(1, make_pictures(), ["quadrants"])
    fuzzed = asyncio.run(fuzz(server, make, 150, tmp_path))
    assert fuzzed.faults == []
    assert fuzzed.workers_kept
    assert {200, 422} <= set(fuzzed.statuses)


@pytest.mark.slow
def test_generated_requests_get_declared_answers(server: Server) -> None:
    # Imported here, since schemathesis takes seconds to import.
    from tests.reliability.schema_fuzz import fuzz_described

    described = fuzz_described(server, 3, ("/predict", "/models/{name}", "/readyz"))
    assert described.faults == []
    assert {200, 404} <= set(described.statuses)


def test_malicious_clients_do_not_affect_others_and_leave_nothing(own: LaunchedServer) -> None:
    endured, absurd = run_all_attacks(own, attackers=4, seconds=0.5)
    assert [one for one in endured if one.unanswered or one.left] == []
    assert [(what, end) for what, end in absurd.items() if end.startswith("5")] == []


@pytest.mark.slow
def test_versions_are_added_and_removed_under_load_and_no_answer_is_mixed_up(
    own: LaunchedServer, models: Path, tmp_path: Path
) -> None:
    outcome = deploy(own, models, tmp_path)
    assert outcome.failed == []
    assert outcome.mixed_up == []
    assert outcome.answered_by == ["1", "2.1", "2.2", "2.3", "1"]
    unfit = [result.reason for result in outcome.results if result.state == "failed"]
    assert all(unfit)
    assert len(unfit) == 5


@pytest.mark.slow
def test_nginx_accepts_the_documented_configuration(own: LaunchedServer, tmp_path: Path) -> None:
    try:
        find_nginx()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with start_nginx([own.port, own.port], tmp_path / "nginx") as port:
        lost = stop_alone(own, make_quarters(), [0, 1, 2, 3], port)  # this stops `own`
    assert lost.lost == {}
    assert lost.sent > 0
