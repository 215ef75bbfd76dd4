"""Which model answers, and what the repository says about models that cannot."""

import asyncio
import gc
import logging
import shutil
import weakref
from pathlib import Path

import pytest

from service.artifact import layout
from service.errors import ModelNotFound, NotReady
from service.repository.repository import MAX_NAMED, NEWEST_FIRST, Repository
from service.settings import read_settings
from service.telemetry.log import FIELDS
from tests.service.quadrants_model import LABELS, write_model


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the settings name."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setenv("SIGHTGLASS_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("SIGHTGLASS_DEVICE", "cpu")
    return tmp_path / "models"


def write(models: Path, name: str, version: int = 1) -> Path:
    path = models / name / str(version) / "model.onnx"
    write_model(path)
    return path


def read_state(repository: Repository, name: str, version: int = 1) -> tuple[str, str | None]:
    """Return the state and the reason of a version."""
    versions = repository.describe(name)["versions"]
    [found] = [entry for entry in versions if entry["version"] == str(version)]
    return found["state"], found["reason"]


def read_fields(record: logging.LogRecord) -> dict[str, str]:
    fields: dict[str, str] = vars(record)[FIELDS]
    return fields


def test_before_the_first_scan_nothing_is_ready(models: Path) -> None:
    write(models, "alpha")
    repository = Repository(read_settings())
    assert repository.reasons_not_ready() == ["The models are still loading."]
    assert repository.provider() is None
    with pytest.raises(NotReady, match="still loading"):
        repository.find("alpha")


def test_an_empty_folder_says_where_a_model_belongs(models: Path) -> None:
    models.mkdir()
    repository = Repository(read_settings())
    asyncio.run(repository.refresh())
    [reason] = repository.reasons_not_ready()
    assert str(models / "<name>" / "<version>" / "model.onnx") in reason
    with pytest.raises(ModelNotFound, match="there are: none"):
        repository.find("alpha")
    with pytest.raises(ModelNotFound):
        repository.describe("alpha")


def test_a_model_is_found_by_name_by_version_and_by_default(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in (("alpha", 2), ("alpha", 10), ("beta", 1)):
        write(models, name, version)
    repository = Repository(read_settings())
    asyncio.run(repository.refresh())
    assert repository.reasons_not_ready() == []
    assert repository.provider() == "cpu"
    assert repository.names() == ["alpha", "beta"]
    found = {it: repository.find(it) for it in (None, "alpha", "alpha/2", "beta")}
    versions = {it: (model.name, model.version) for it, model in found.items()}
    assert versions == {
        None: ("alpha", "10"),
        "alpha": ("alpha", "10"),
        "alpha/2": ("alpha", "2"),
        "beta": ("beta", "1"),
    }
    assert found["beta"].labels == list(LABELS)
    assert found["beta"].label_index.indices[LABELS[2]] == 2
    assert [(model.name, model.version) for model in repository.loaded()] == [
        ("alpha", "2"),
        ("alpha", "10"),
        ("beta", "1"),
    ]
    assert repository.describe("alpha")["default"]
    assert not repository.describe("beta")["default"]
    with pytest.raises(ModelNotFound, match="there are: alpha, beta"):
        repository.find("alpha/3")
    monkeypatch.setenv("SIGHTGLASS_DEFAULT_MODEL", "beta")
    repository = Repository(read_settings())
    asyncio.run(repository.refresh())
    assert repository.find(None).name == "beta"
    assert repository.describe("beta")["default"]


def test_a_model_that_is_added_does_not_become_the_default(models: Path) -> None:
    write(models, "land")
    repository = Repository(read_settings())
    asyncio.run(repository.refresh())
    write(models, "broken").write_bytes(b"no model")
    write(models, "alpha")
    asyncio.run(repository.refresh())
    assert repository.reasons_not_ready() == []
    assert repository.find(None).name == "land"
    assert repository.describe("land")["default"]
    assert not repository.describe("alpha")["default"]
    shutil.rmtree(models / "land")
    asyncio.run(repository.refresh())
    assert repository.find(None).name == "alpha"  # not 'broken', which is not ready


def test_at_the_start_the_first_model_that_is_ready_is_the_default(models: Path) -> None:
    write(models, "alpha").write_bytes(b"no model")
    write(models, "beta")
    write(models, "gamma")
    repository = Repository(read_settings())
    asyncio.run(repository.refresh())
    assert repository.find(None).name == "beta"


def test_many_versions_that_fail_do_not_keep_an_old_one_away(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(models, "alpha")
    for version in range(2, 9):
        write(models, "alpha", version).write_bytes(b"no model")
    repository = Repository(read_settings())
    with caplog.at_level(logging.INFO):
        asyncio.run(repository.refresh())
    ended = [
        read_fields(record)["model"]
        for record in caplog.records
        if record.message in ("model ready", "model failed")
    ]
    assert ended[: NEWEST_FIRST + 1] == ["alpha/8", "alpha/7", "alpha/1"]
    assert repository.find("alpha").version == "1"


def test_without_a_ready_model_the_reason_names_those_that_failed(models: Path) -> None:
    write(models, "alpha").write_bytes(b"no model")
    repository = Repository(read_settings())
    asyncio.run(repository.refresh())
    assert repository.reasons_not_ready() == ["No model is ready; these failed to load: alpha/1."]


def test_what_is_wrong_with_the_folder_is_logged_once(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SIGHTGLASS_DEFAULT_MODEL", "nobody")
    repository = Repository(read_settings())
    asyncio.run(repository.refresh())
    write(models, "alpha").rename(models / "alpha" / "model.onnx")
    for _ in range(2):
        asyncio.run(repository.refresh())
    reasons = [read_fields(it)["reason"] for it in caplog.records if it.msg == "model folder"]
    missing, default, misplaced = reasons
    assert missing == (
        f"The model folder {models} does not exist: make it, or set SIGHTGLASS_MODELS_DIR to "
        "another one."
    )
    assert f"The default model 'nobody' is not in {models}" in default
    assert misplaced.startswith(f"{models}/alpha/model.onnx is not served")
    [reason] = repository.reasons_not_ready()
    assert "'nobody'" in reason


def test_models_are_still_served_while_their_folder_cannot_be_read(models: Path) -> None:
    write(models, "alpha")
    repository = Repository(read_settings())
    asyncio.run(repository.refresh())
    models.rename(models.with_name("away"))
    asyncio.run(repository.refresh())
    assert repository.find("alpha").version == "1"
    models.with_name("away").rename(models)
    shutil.rmtree(models / "alpha")
    asyncio.run(repository.refresh())
    assert repository.names() == []


def test_too_many_files_are_a_fault_and_what_is_served_stays(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(layout, "MAX_FILES", 3)
    write(models, "alpha")
    repository = Repository(read_settings())
    asyncio.run(repository.refresh())
    for version in (1, 2, 3):
        write(models, "beta", version)
    asyncio.run(repository.refresh())
    assert repository.names() == ["alpha"]
    assert repository.find("alpha").version == "1"
    [reason] = [read_fields(it)["reason"] for it in caplog.records if it.msg == "model folder"]
    assert "more than 3 model files" in reason
    shutil.rmtree(models / "alpha")
    asyncio.run(repository.refresh())
    assert repository.names() == ["beta"]
    assert [it["version"] for it in repository.describe("beta")["versions"]] == ["1", "2", "3"]


def test_an_error_names_only_some_of_many_models(models: Path) -> None:
    for number in range(MAX_NAMED + 5):
        write(models, f"m{number:02}").write_bytes(b"no model")
    repository = Repository(read_settings())
    asyncio.run(repository.refresh())
    with pytest.raises(ModelNotFound, match=r"m00, m01, .* and 5 more\.$"):
        repository.find("other")


def test_a_removed_model_is_freed_without_a_garbage_collection(models: Path) -> None:
    """A collection may be far away, and never reaches what was frozen at the start."""
    write(models, "alpha")
    repository = Repository(read_settings())
    gc.disable()
    try:
        asyncio.run(repository.refresh())
        removed = weakref.ref(repository.find("alpha").batcher)
        shutil.rmtree(models / "alpha")
        asyncio.run(repository.refresh())
        assert removed() is None
    finally:
        gc.enable()


def test_new_versions_of_served_models_are_loaded_before_other_models(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write(models, "beta")
    repository = Repository(read_settings())
    asyncio.run(repository.refresh())
    write(models, "alpha")
    write(models, "beta", 2)
    asyncio.run(repository.refresh())
    ready = [read_fields(it)["model"] for it in caplog.records if it.msg == "model ready"]
    assert ready == ["beta/1", "beta/2", "alpha/1"]


def test_a_file_that_fails_leaves_the_old_model_and_other_versions_serving(models: Path) -> None:
    path = write(models, "alpha")
    repository = Repository(read_settings())

    async def replace_and_refresh() -> None:
        await repository.refresh()
        write(models, "alpha", 2).write_bytes(b"no model")
        broken = path.with_suffix(".part")
        broken.write_bytes(path.read_bytes()[:-100])
        broken.rename(path)
        await repository.refresh()

    asyncio.run(replace_and_refresh())
    for version in (1, 2):
        state, reason = read_state(repository, "alpha", version)
        assert state == "failed"
        assert reason
        assert "can't be read as an ONNX file" in reason
    assert repository.find("alpha").version == "1"
    with pytest.raises(NotReady, match="'alpha/2' failed to load"):
        repository.find("alpha/2")


def test_only_changed_files_are_loaded_again_and_removed_ones_are_forgotten(models: Path) -> None:
    write(models, "alpha")
    write(models, "beta")
    repository = Repository(read_settings())

    async def change_and_refresh() -> None:
        await repository.refresh()
        alpha = repository.find("alpha")
        await repository.refresh()
        assert repository.find("alpha") is alpha
        write(models, "alpha")
        shutil.rmtree(models / "beta")
        await repository.refresh()
        assert repository.find("alpha") is not alpha

    asyncio.run(change_and_refresh())
    assert repository.names() == ["alpha"]


def test_without_polling_the_folder_is_scanned_once(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(models, "alpha")
    monkeypatch.setenv("SIGHTGLASS_MODEL_POLL_SECONDS", "0")
    repository = Repository(read_settings())
    asyncio.run(repository.watch())
    assert read_state(repository, "alpha") == ("ready", None)


def test_the_cards_of_all_models_have_a_limit_and_what_is_served_stays(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(models, "alpha")
    repository = Repository(read_settings())
    asyncio.run(repository.refresh())
    size = len(repository.find("alpha").artifact.public_card)
    monkeypatch.setattr("service.repository.repository.MAX_CARDS_BYTES", size + 10)
    write(models, "beta")
    write(models, "alpha")  # its new card takes the place of the old one
    asyncio.run(repository.refresh())
    assert read_state(repository, "alpha") == ("ready", None)
    state, reason = read_state(repository, "beta")
    assert state == "failed"
    assert f"more than {size + 10} bytes" in (reason or "")
