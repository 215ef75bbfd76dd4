"""Names and defaults of the settings, and values that stop the start."""

import os
import re
from pathlib import Path

import pytest

from service.settings import (
    BUNDLED_DEFAULT,
    Settings,
    SettingsError,
    apply_bundled_default,
    read_settings,
)
from tests.contract.tree import PICTURE
from tests.server import start_server
from tests.warm_process import start_worker

DEFAULTS: dict[str, object] = {
    "MODELS_DIR": Path("models"),
    "DEFAULT_MODEL": None,
    "DEVICE": "auto",
    "MAX_BATCH_SIZE": "auto",
    "MAX_QUEUE_DELAY_MS": 0,
    "MAX_QUEUE_SIZE": 256,
    "MAX_INFLIGHT_BYTES": 268_435_456,
    "REQUEST_TIMEOUT_MS": 10_000,
    "MAX_UPLOAD_BYTES": 10_485_760,
    "MAX_REQUEST_BYTES": 67_108_864,
    "MAX_IMAGE_PIXELS": 50_000_000,
    "MAX_CONNECTIONS": "auto",
    "GRPC_PORT": 0,
    "MODEL_POLL_SECONDS": 2,
    "DRAIN_SECONDS": 5,
    "API_KEYS": (),
    "PUBLIC_PATHS": (
        *("/", "/page/*", "/docs", "/openapi.json"),
        *("/livez", "/readyz", "/v2/health/*"),
    ),
    "CORS_ORIGINS": (),
    "FRAME_ANCESTORS": (),
    "WORKERS": "auto",
    "DECODE_THREADS": "auto",
    "INTRA_OP_THREADS": "auto",
}
POSITIVE = ("0", "-1", "1.5", "many", "", "1e3")
NOT_NEGATIVE = ("-0.1", "nan", "inf", "soon", "")
BAD = {
    "DEVICE": ("tpu", "CUDA", ""),
    "MAX_QUEUE_DELAY_MS": NOT_NEGATIVE,
    "MODEL_POLL_SECONDS": NOT_NEGATIVE,
    "DRAIN_SECONDS": NOT_NEGATIVE,
    **{
        name: POSITIVE
        for name, value in DEFAULTS.items()
        if (isinstance(value, int) and value > 5) or (value == "auto" and name != "DEVICE")
    },
}


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SIGHTGLASS_")]:
        monkeypatch.delenv(name)


def test_the_settings_have_these_names_and_defaults() -> None:
    settings = read_settings()
    assert {name: getattr(settings, name.lower()) for name in DEFAULTS} == DEFAULTS
    assert {name.upper() for name in Settings.model_fields} == set(DEFAULTS)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_an_invalid_value_gives_one_sentence_with_the_variable_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"SIGHTGLASS_{name}", value)
    with pytest.raises(SettingsError) as error:
        read_settings()
    sentence = rf'SIGHTGLASS_{name} must be [^\n]+, got "{re.escape(value)}"\.'
    assert re.fullmatch(sentence, str(error.value))


@pytest.mark.parametrize("name", ["MAX_BATCH_SIZE", "WORKERS", "DECODE_THREADS"])
def test_auto_and_a_number_are_both_accepted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for text, value in (("auto", "auto"), ("3", 3)):
        monkeypatch.setenv(f"SIGHTGLASS_{name}", text)
        assert getattr(read_settings(), name.lower()) == value


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTGLASS_API_KEYS", " key-1, key-2 ,,")
    monkeypatch.setenv("SIGHTGLASS_PUBLIC_PATHS", "")
    settings = read_settings()
    assert settings.api_keys == ("key-1", "key-2")
    assert settings.public_paths == ()
    assert "key-1" not in repr(settings)


@pytest.mark.parametrize(
    ("models", "environment", "default"),
    [
        (("birds", BUNDLED_DEFAULT), {}, BUNDLED_DEFAULT),
        (("birds", BUNDLED_DEFAULT), {"DEFAULT_MODEL": ""}, BUNDLED_DEFAULT),
        (("birds",), {"DEFAULT_MODEL": ""}, None),
        (("birds",), {"DEFAULT_MODEL": "bees"}, "bees"),
        (("birds", BUNDLED_DEFAULT), {"MODELS_DIR": "models"}, None),
    ],
)
def test_the_photo_model_is_the_default_only_where_it_is_and_nothing_else_is_set(
    models: tuple[str, ...],
    environment: dict[str, str],
    default: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compose sets an empty default if it is given none, and puts the models into this folder."""
    for name in models:
        (tmp_path / "models" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("service.settings.BUNDLED_MODELS", tmp_path / "models")
    for name, value in environment.items():
        monkeypatch.setenv(f"SIGHTGLASS_{name}", value)
    settings = apply_bundled_default(read_settings())
    assert settings.default_model == default
    assert settings.models_dir == Path("models")


def describe_service(address: str) -> dict[str, str]:
    """What Kubernetes tells containers of a Service, less its name."""
    url = f"tcp://{address}:80"
    return {
        "service_host": address, "service_port": "80", "service_port_http": "80", "port": url,
        "port_80_tcp": url, "port_80_tcp_addr": address, "port_80_tcp_port": "80",
        "port_80_tcp_proto": "tcp",
    }  # fmt: skip


@pytest.mark.parametrize("address", ["10.0.0.1", "[fd00::1]"])
@pytest.mark.parametrize("name", [name for name in DEFAULTS if name.endswith("_PORT")])
def test_a_port_that_kubernetes_sets_for_a_service_is_no_setting(
    name: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the Service sightglass-grpc, that is SIGHTGLASS_GRPC_PORT."""
    for rest, value in describe_service(address).items():
        monkeypatch.setenv(f"SIGHTGLASS_{name.removesuffix('PORT')}{rest.upper()}", value)
    assert getattr(read_settings(), name.lower()) == DEFAULTS[name]


def test_an_unknown_setting_is_a_warning_with_the_nearest_name(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    """What Kubernetes sets for Services such as sightglass and sightglass-grpc is passed over."""
    injected = {
        f"{service}{name}": value
        for service in ("", "grpc_", "models_2_")
        for name, value in describe_service("10.0.0.1").items()
    }
    typos = {"max_batchsize": 4, "colour": "blue", "grcp_port": 9000}
    with start_worker(quadrants_dir, tmp_path, **injected, **typos) as server:
        server.wait_ready()
        warned = server.wait_events(lambda one: one["event"] == "unknown setting", len(typos))
    assert [one["reason"] for one in warned] == [
        "There is no setting SIGHTGLASS_COLOUR, so it has no effect.",
        "There is no setting SIGHTGLASS_GRCP_PORT, so it has no effect. "
        "Did you mean SIGHTGLASS_GRPC_PORT?",
        "There is no setting SIGHTGLASS_MAX_BATCHSIZE, so it has no effect. "
        "Did you mean SIGHTGLASS_MAX_BATCH_SIZE?",
    ]
    assert {one["level"] for one in warned} == {"warning"}


@pytest.mark.slow
def test_a_server_runs_with_every_setting_set(quadrants_dir: Path, tmp_path: Path) -> None:
    settings = {
        "default_model": "quadrants",
        "device": "cpu",
        "max_batch_size": 2,
        "max_queue_delay_ms": 1.5,
        "max_queue_size": 10,
        "max_inflight_bytes": 1_000_000,
        "request_timeout_ms": 5000,
        "max_upload_bytes": 1000,
        "max_request_bytes": 5000,
        "max_image_pixels": 1024,
        "max_connections": 20,
        "model_poll_seconds": 0,
        "drain_seconds": 0,
        "api_keys": "key",
        "public_paths": "/readyz",
        "cors_origins": "*",
        "workers": 1,
        "decode_threads": 1,
        "intra_op_threads": 1,
    }
    with start_server(quadrants_dir, tmp_path, **settings) as server:
        server.wait_ready()
        headers = {"authorization": "Bearer key"}
        answer = server.client.post("/predict", content=PICTURE, headers=headers)
        assert answer.status_code == 200
        assert server.stop() == 0
