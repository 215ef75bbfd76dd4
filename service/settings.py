"""The settings: environment variables SIGHTGLASS_…, read once and checked at the start."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, PositiveInt, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

AUTO: Final = "auto"
BUNDLED_DEFAULT = "squeezenet1_1"  # of the models in this repository
PREFIX = "SIGHTGLASS_"
PositiveOrAuto = PositiveInt | Literal["auto"]
Words = Annotated[tuple[str, ...], NoDecode]  # comma-separated in the environment


class ConfigurationError(Exception):
    """What whoever starts the service, or a command of it, got wrong; one sentence."""


class SettingsError(ConfigurationError):
    """A setting that stops the start; its message is one sentence."""


class DeviceError(ConfigurationError):
    """The device that the settings insist on does not work; one sentence says what is missing."""


class Settings(BaseSettings):
    """Limits are per worker. Each field's description is its line in the README."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    models_dir: Path = Field(Path("models"), description="The tree `<name>/<version>/model.onnx`")
    default_model: str | None = Field(
        None,
        description="Answers when no model is named; else the only one, else the first by name",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="`cuda` refuses to start without a working GPU; `auto` says what it chose",
    )
    max_batch_size: PositiveOrAuto = Field(
        AUTO, description="Rows in one pass of the model; auto is 8 on a CPU, 32 on a GPU"
    )
    max_queue_delay_ms: float = Field(
        0,
        ge=0,
        allow_inf_nan=False,
        description="How long a batch may wait for more rows; 0 runs it at once",
    )
    max_queue_size: PositiveInt = Field(256, description="Images accepted and not yet answered")
    max_inflight_bytes: PositiveInt = Field(
        268_435_456, description="Bodies and decoded pixels held at a time"
    )
    request_timeout_ms: PositiveInt = Field(
        10_000, description="From the headers' arrival to the answer"
    )
    max_upload_bytes: PositiveInt = Field(10_485_760, description="One image, encoded")
    max_request_bytes: PositiveInt = Field(
        67_108_864, description="A whole request of several images"
    )
    max_image_pixels: PositiveInt = Field(50_000_000, description="One image, decoded")
    model_poll_seconds: float = Field(
        2,
        ge=0,
        allow_inf_nan=False,
        description="How often the tree is looked at for new versions; 0 is never",
    )
    drain_seconds: float = Field(
        5,
        ge=0,
        allow_inf_nan=False,
        description="How long a stopping server goes on answering new requests",
    )
    api_keys: Words = Field(
        (), repr=False, description="Comma-separated; a request must carry one; empty is open"
    )
    public_paths: Words = Field(
        ("/livez", "/readyz", "/v2/health/*"), description="Open although keys are set"
    )
    cors_origins: Words = Field((), description="Origins whose pages may call, comma-separated")
    workers: PositiveOrAuto = Field(
        AUTO,
        description="Processes, each with its own models; `auto` is one, or one a core (up to 8) "
        "where every model is done within 0.1 ms",
    )
    decode_threads: PositiveOrAuto = Field(
        AUTO, description="Threads that decode and draw pictures"
    )
    intra_op_threads: PositiveOrAuto = Field(AUTO, description="Threads of one pass of the model")

    @field_validator("api_keys", "public_paths", "cors_origins", mode="before")
    @classmethod
    def _split(cls, words: str | tuple[str, ...]) -> tuple[str, ...]:
        if isinstance(words, str):
            return tuple(word.strip() for word in words.split(",") if word.strip())
        return words


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsFault: a value that can't be; the sentence names the variable and what would do.
    """
    try:
        return Settings()  # type: ignore[call-arg]  # the environment supplies the fields
    except ValidationError as fault:
        raise SettingsError(_explain(fault)) from None


def render_settings() -> str:
    """The README's table of them."""
    lines = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        words = isinstance(field.default, tuple)
        default = ",".join(field.default) if words else field.default
        told = "" if default in (None, "") else f"`{default}`"
        lines.append(f"| `{PREFIX}{name.upper()}` | {told} | {field.description} |")
    return "\n".join(lines)


def with_bundled_default(settings: Settings) -> Settings:
    """With the bundled model for photographs as default, if neither model nor tree is set."""
    if {"default_model", "models_dir"} & settings.model_fields_set:
        return settings
    return settings.model_copy(update={"default_model": BUNDLED_DEFAULT})


def _explain(fault: ValidationError) -> str:
    """One sentence for the first variable at fault."""
    errors = fault.errors(include_url=False)
    name = str(errors[0]["loc"][0])
    wishes = [
        error["msg"].partition(", unable to parse")[0]
        for error in errors
        if error["loc"][0] == name
    ]
    wanted = " or ".join(dict.fromkeys(wish.removeprefix("Input should be ") for wish in wishes))
    value = "" if name == "api_keys" else f"={errors[0]['input']}"
    return f"{PREFIX}{name.upper()}{value} can't be: it should be {wanted}."
