"""The settings: environment variables SIGHTGLASS_…, read once and validated at the start."""

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

AUTO: Final = "auto"
BUNDLED_MODELS = Path(__file__).parents[1] / "models"  # in this repository, or in the wheel
BUNDLED_DEFAULT = "efficientnet_lite0"  # one of them
PREFIX = "SIGHTGLASS_"
LISTEN_VARIABLE = "LAUNCHER_HOST"  # the address that the launcher listens on
OTHERS = {"SIGHTGLASS_DATA", "SIGHTGLASS_IMAGE", "SIGHTGLASS_KEY"}  # training, compose, clients
# Kubernetes sets these in every container that can see a Service with the name `sightglass` or
# `sightglass-…`. SIGHTGLASS_GRPC_PORT may be a setting or one of them: its value tells.
INJECTED = re.compile(
    PREFIX + r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
INJECTED_PORT = re.compile(PREFIX + r"(\w+_)?PORT")
INJECTED_ADDRESS = re.compile(r"(tcp|udp|sctp)://.+")
PositiveOrAuto = PositiveInt | Literal["auto"]
ORIGIN = re.compile(r"https?://(\*\.)?[A-Za-z0-9.-]+(:\d{1,5})?")
CommaSeparated = Annotated[tuple[str, ...], NoDecode]


class ConfigurationError(Exception):
    """Something that the person who starts a command must correct; the message is one sentence."""


class SettingsError(ConfigurationError):
    """A setting has a value that is not allowed, so the service does not start."""


class DeviceError(ConfigurationError):
    """The device that the settings demand does not work; the message says what is missing."""


class Settings(BaseSettings):
    """All settings. Limits apply to each worker. The descriptions make the settings table."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    models_dir: Path = Field(
        Path("models"),
        description="Folder of the models, laid out as `<name>/<version>/model.onnx`",
    )
    default_model: str | None = Field(
        None,
        description="Model for requests that name none. If unset, the first by name among those "
        "that are ready, until it is removed",
    )
    device: Literal["auto", "cpu", "openvino", "cuda"] = Field(
        "auto",
        description="`auto` uses a GPU if one works, else for each model the faster of onnxruntime "
        "and OpenVINO if that is installed, and logs its choice. `cpu` is onnxruntime. `openvino` "
        "is OpenVINO and stops the start if it is not installed. `cuda` stops the start if no GPU "
        "works",
    )
    max_batch_size: PositiveOrAuto = Field(
        AUTO,
        description="Maximum number of images in one run of the model. `auto` is 8 on a CPU and "
        "32 on a GPU",
    )
    max_queue_delay_ms: float = Field(
        0,
        ge=0,
        allow_inf_nan=False,
        description="Milliseconds that a batch waits for more images. With `0` it runs as soon as "
        "the model is free",
    )
    max_queue_size: PositiveInt = Field(
        256, description="Maximum number of images that are accepted but not yet answered"
    )
    max_inflight_bytes: PositiveInt = Field(
        268_435_456,
        description="Maximum number of bytes of request bodies and decoded images in memory",
    )
    request_timeout_ms: PositiveInt = Field(
        10_000,
        description="Deadline of a request in milliseconds, counted from the arrival of its "
        "headers",
    )
    max_upload_bytes: PositiveInt = Field(
        10_485_760, description="Maximum size of one encoded image in bytes"
    )
    max_request_bytes: PositiveInt = Field(
        67_108_864, description="Maximum size of a request with several images in bytes"
    )
    max_image_pixels: PositiveInt = Field(
        50_000_000, description="Maximum number of pixels in one image, width times height"
    )
    max_connections: Annotated[int, Field(ge=16)] | Literal["auto"] = Field(
        AUTO,
        description="Maximum number of open connections. `auto` is the number of files that the "
        "process may open (`ulimit -n`), less 64",
    )
    model_poll_seconds: float = Field(
        2,
        ge=0,
        allow_inf_nan=False,
        description="Seconds between two searches for new model versions. `0` turns the search off",
    )
    drain_seconds: float = Field(
        5,
        ge=0,
        allow_inf_nan=False,
        description="Seconds that a stopping server keeps answering new requests",
    )
    grpc_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        0,
        description="Port of the Open Inference Protocol over gRPC, on the same host as HTTP. `0` "
        "turns it off",
    )
    api_keys: CommaSeparated = Field(
        (),
        repr=False,
        description="Accepted API keys, comma-separated. A request must carry one of them. "
        "If empty, no key is needed",
    )
    public_paths: CommaSeparated = Field(
        ("/", "/page/*", "/docs", "/openapi.json", "/livez", "/readyz", "/v2/health/*"),
        description="Paths that need no API key, comma-separated. `*` matches any characters",
    )
    cors_origins: CommaSeparated = Field(
        (),
        description="Origins whose web pages may call the service, comma-separated. "
        "`*` allows all origins",
    )
    frame_ancestors: CommaSeparated = Field(
        (),
        description="Origins whose web pages may show `/embed` in a frame, comma-separated. "
        "If empty, there is no `/embed`",
    )
    workers: PositiveOrAuto = Field(
        AUTO,
        description="Number of worker processes, each with its own models. `auto` is one process, "
        "or one per core (at most 8) if every model takes at most 0.1 ms per image",
    )
    decode_threads: PositiveOrAuto = Field(
        AUTO,
        description="Number of threads that decode and draw images. `auto` is one per core",
    )
    intra_op_threads: PositiveOrAuto = Field(
        AUTO,
        description="Number of threads for one run of a model. `auto` is 1 for a small model, and "
        "one per core for a larger one",
    )

    @model_validator(mode="before")
    @classmethod
    def _pass_over_injected(cls, values: dict[str, object]) -> dict[str, object]:
        return {
            name: value
            for name, value in values.items()
            if not is_injected(f"{PREFIX}{name.upper()}", str(value))
        }

    @field_validator("api_keys", "public_paths", "cors_origins", "frame_ancestors", mode="before")
    @classmethod
    def _split(cls, value: str | tuple[str, ...]) -> tuple[str, ...]:
        if isinstance(value, str):
            return tuple(item.strip() for item in value.split(",") if item.strip())
        return value

    @field_validator("default_model")
    @classmethod
    def _take_empty_for_unset(cls, value: str | None) -> str | None:
        return value or None  # Compose can't leave out a variable

    @field_validator("frame_ancestors")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(ORIGIN.fullmatch(origin) for origin in value):
            raise PydanticCustomError(
                "origins", "origins such as https://www.example.org, separated by commas"
            )
        return value


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: a value is not allowed; the message says what is.
    """
    try:
        return Settings()  # type: ignore[call-arg]  # the environment supplies the fields
    except ValidationError as exc:
        raise SettingsError(_describe_first_error(exc)) from None


def find_cache_folder() -> Path | None:
    """Return the folder for what may be deleted at any time, or None if the user has no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sightglass"
    except RuntimeError:
        return None


def is_injected(variable: str, value: str) -> bool:
    """Whether Kubernetes has set a variable, so that it is not a setting."""
    is_address = INJECTED_PORT.fullmatch(variable) and INJECTED_ADDRESS.fullmatch(value)
    return bool(is_address or INJECTED.fullmatch(variable))


def describe_unknown_settings() -> list[str]:
    """A sentence for each variable of the environment that looks like a setting, but is none."""
    known = [name.upper() for name in Settings.model_fields]
    sentences = []
    for variable, value in sorted(os.environ.items()):
        name = variable.upper().removeprefix(PREFIX)
        is_ours = variable.upper().startswith(PREFIX) and variable not in OTHERS
        if is_ours and name not in known and not is_injected(variable, value):
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {PREFIX}{near[0]}?" if near else ""
            sentences.append(f"There is no setting {variable}, so it has no effect.{hint}")
    return sentences


def render_settings() -> str:
    """The settings as a Markdown table, for the reference page."""
    lines = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        cell = "" if default in (None, "") else f"`{default}`"
        lines.append(f"| `{PREFIX}{name.upper()}` | {cell} | {field.description} |")
    return "\n".join(lines)


def apply_bundled_default(settings: Settings) -> Settings:
    """If neither a model nor a folder is set, take the bundled ones.

    A folder `models` of the current folder comes before the bundled one. The bundled photo model
    is the default model where it is one of the models.
    """
    if settings.default_model is not None or "models_dir" in settings.model_fields_set:
        return settings
    folder = settings.models_dir if settings.models_dir.exists() else BUNDLED_MODELS
    default = BUNDLED_DEFAULT if (folder / BUNDLED_DEFAULT).exists() else None
    return settings.model_copy(update={"models_dir": folder, "default_model": default})


def _describe_first_error(exc: ValidationError) -> str:
    """One sentence for the first variable whose value is not allowed."""
    errors = exc.errors(include_url=False)
    name = str(errors[0]["loc"][0])
    allowed = [
        error["msg"].partition(", unable to parse")[0].removeprefix("Input should be ")
        for error in errors
        if error["loc"][0] == name
    ]
    # A key is a secret, so its value is never shown.
    value = "" if name == "api_keys" else f', got "{errors[0]["input"]}"'
    return f"{PREFIX}{name.upper()} must be {' or '.join(dict.fromkeys(allowed))}{value}."
