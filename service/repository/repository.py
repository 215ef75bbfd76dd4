"""The model repository as it is served: models are found, loaded, replaced and removed.

Loading happens in a thread of its own. What is served changes on the event loop, between two
requests. A request keeps its model, so an old version lives until its last answer.
"""

import asyncio
import gc
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from textwrap import shorten
from typing import Any, Literal

from service.artifact.card import Artifact
from service.artifact.layout import FILE_NAME, Key, Stamp, find_model_files, make_model_path
from service.errors import ModelNotFound, NotReady, excerpt
from service.repository.attention import Attention
from service.repository.loader import load_model_file, try_model_file
from service.repository.recovery import Recovery
from service.repository.sandbox import Sandbox
from service.runtime.batcher import BatchCallbacks, Batcher, DeviceLost
from service.runtime.device import detect_device_loss
from service.runtime.engine import Session
from service.runtime.policy import BatchPolicy
from service.runtime.session import choose_batch_size
from service.settings import Settings
from service.telemetry.log import with_fields
from service.telemetry.metrics import BATCH_SIZE, DEVICE_FAILURES

REASON_CHARACTERS = 1000  # a message may quote the content of a file
CLOSED_FORM = "closed-form"  # a compiler whose maps cost almost nothing

log = logging.getLogger(__name__)
State = Literal["loading", "ready", "failed"]


@dataclass(frozen=True)
class Model:
    """One version, loaded and warmed up."""

    name: str
    version: str
    artifact: Artifact
    provider: str
    batcher: Batcher
    attention: Attention

    @cached_property
    def indices(self) -> dict[str, int]:
        """Return the index of each label."""
        return {label: index for index, label in enumerate(self.labels)}

    @property
    def labels(self) -> list[str]:
        """Return the K labels, in the order of the logits."""
        return self.artifact.card.labels


@dataclass
class Entry:
    """The state of one file; `model` still serves if a later file at its place failed to load."""

    stamp: Stamp
    state: State = "loading"
    reason: str | None = None
    model: Model | None = None


class Repository:
    """The models of a folder `<name>/<version>/model.onnx`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._entries: dict[Key, Entry] = {}
        self._scanned = False
        self.sandbox = Sandbox(try_model_file)
        self._recovery = Recovery(settings.request_timeout_ms / 1000)
        self._recovering: asyncio.Future[None] | None = None
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")

    async def watch(self) -> None:
        """Load all models, then those that change, until cancelled."""
        while True:
            try:
                await self.refresh()
            except Exception:  # a folder that cannot be read now may be readable at the next scan
                log.exception("the model folder could not be scanned")
            if not self._settings.model_poll_seconds:
                return
            await asyncio.sleep(self._settings.model_poll_seconds)

    async def refresh(self) -> None:
        """Scan the folder once and load what is new or has changed."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._loader, find_model_files, self._settings.models_dir
        )
        for key in [key for key in self._entries if key not in found]:
            del self._entries[key]
            log.info("model removed", extra=with_fields(model=_format_key(key)))
        fresh = [key for key in found if not self._is_known(key, found[key])]
        for key in fresh:
            entry = self._entries.setdefault(key, Entry(found[key]))
            entry.stamp, entry.state, entry.reason = found[key], "loading", None
            log.info("model loading", extra=with_fields(model=_format_key(key)))
        self._scanned = True
        for key in sorted(fresh, key=self._get_loading_order):
            await self._load(key, self._entries[key])

    def find(self, reference: str | None) -> Model:
        """Return the model for `name` or `name/version`; None means the default model.

        Raises:
            ModelNotFound: there is no such model.
            NotReady: there is, but no version of it is loaded.
        """
        if reference is None:
            reference = self.default_name()
            if reference is None:
                raise NotReady(self._describe_no_default())
        name, _, version = reference.partition("/")
        entries = self._versions(name)
        if version:
            entries = [entry for entry in entries if str(entry[0]) == version]
        if not entries:
            if not self._scanned:
                raise NotReady("The models are still loading.")
            raise ModelNotFound(self._describe_unknown(reference))
        for _, entry in reversed(entries):
            if entry.model:
                return entry.model
        newest = entries[-1][1]
        state = "failed to load" if newest.state == "failed" else "is still loading"
        reason = f" ({newest.reason})" if newest.reason and newest.state == "loading" else ""
        raise NotReady(f"The model '{reference}' {state}{reason}.")

    def default_name(self) -> str | None:
        """Return the name of the default model: the one in the settings, or the first by name."""
        if self._settings.default_model:
            return self._settings.default_model
        return min((name for name, _ in self._entries), default=None)

    def reasons_not_ready(self) -> list[str]:
        """Return why the default model cannot answer; empty if it can."""
        try:
            model = self.find(None)
        except (ModelNotFound, NotReady) as exc:
            return [exc.message]
        if self._recovery.is_overdue(model.batcher.run_seconds):
            return [f"The device has been running one batch for {model.batcher.run_seconds:.0f} s."]
        return []

    def provider(self) -> str | None:
        """Return the device of the default model, or None if it is not loaded."""
        try:
            return self.find(None).provider
        except (ModelNotFound, NotReady):
            return None

    def names(self) -> list[str]:
        """Return the names of all models."""
        return sorted({name for name, _ in self._entries})

    def loaded(self) -> list[Model]:
        """Return all versions that can answer."""
        return [entry.model for _, entry in sorted(self._entries.items()) if entry.model]

    def describe(self, name: str) -> dict[str, Any]:
        """Return the entry of a model in `/models`.

        Raises:
            ModelNotFound: there is no such model.
        """
        versions = self._versions(name)
        if not versions:
            raise ModelNotFound(self._describe_unknown(name))
        default = (self.default_name() or "").partition("/")[0]
        return {
            "name": name,
            "default": name == default,
            "versions": [_describe_version(version, entry) for version, entry in versions],
        }

    def _versions(self, name: str) -> list[tuple[int, Entry]]:
        """Return the versions of a model, oldest first."""
        found = [(version, entry) for (its, version), entry in self._entries.items() if its == name]
        return sorted(found, key=lambda pair: pair[0])

    def _is_known(self, key: Key, stamp: Stamp) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry.stamp == stamp

    def _get_loading_order(self, key: Key) -> tuple[bool, str, int]:
        """Load the newest version of the default model first: it makes the service ready."""
        name, version = key
        return (name != (self.default_name() or "").partition("/")[0], name, -version)

    async def _load(self, key: Key, entry: Entry) -> None:
        loop = asyncio.get_running_loop()
        path = make_model_path(self._settings.models_dir, key)
        try:
            artifact, session = await loop.run_in_executor(
                self._loader, load_model_file, path, self._settings, self.sandbox
            )
        except Exception as exc:  # whatever one file does, the others are still served
            reason = shorten(str(exc), REASON_CHARACTERS)
            entry.state, entry.reason = "failed", reason
            log.error("model failed", extra=with_fields(model=_format_key(key), reason=reason))
            return
        on_device_lost = partial(self._recover, key, entry)
        entry.model = _make_model(key, artifact, session, self._settings, on_device_lost)
        entry.state, entry.reason = "ready", None
        log.info(
            "model ready",
            extra=with_fields(
                model=_format_key(key), provider=session.provider, sha256=artifact.sha256
            ),
        )

    def _recover(self, key: Key, entry: Entry, lost: DeviceLost) -> None:
        """Unload a version whose device failed and load it again; the second time, give up."""
        log.error("device failed", extra=with_fields(model=_format_key(key), reason=str(lost)))
        DEVICE_FAILURES.labels(key[0]).inc()
        entry.model, entry.state, entry.reason = None, "loading", str(lost)
        if self._recovery.may_try_again():
            self._recovering = asyncio.ensure_future(self._load_again(key, entry))

    async def _load_again(self, key: Key, entry: Entry) -> None:
        gc.collect()  # frees the memory of the old session
        await self._load(key, entry)
        if entry.model is None:
            self._recovery.give_up(entry.reason or "")

    def check_hung_runs(self) -> None:
        """End the process if a batch has been running for so long that no client waits for it."""
        for model in self.loaded():
            self._recovery.check_hung_run(model.name, model.batcher.run_seconds)

    def _describe_unknown(self, reference: str) -> str:
        known = ", ".join(self.names()) or "none"
        return f"There is no model '{excerpt(reference)}' here; there are: {known}."

    def _describe_no_default(self) -> str:
        if not self._scanned:
            return "The models are still loading."
        path = self._settings.models_dir / "<name>" / "<version>" / FILE_NAME
        return f"There is no model here: put one at {path}."


def _make_model(
    key: Key,
    artifact: Artifact,
    session: Session,
    settings: Settings,
    on_device_lost: Callable[[DeviceLost], None],
) -> Model:
    """Put a loaded session behind a queue."""
    name, version = key[0], str(key[1])
    attention = Attention(name, version, artifact)
    policy = BatchPolicy(
        choose_batch_size(settings, session.provider),
        settings.max_queue_delay_ms / 1000,
        session.replicas,
        session.run_inline,
        min_targets=int(artifact.card.gradcam.compiler == CLOSED_FORM),
    )
    callbacks = BatchCallbacks(BATCH_SIZE.labels(name).observe, attention.add, on_device_lost)
    batcher = Batcher(
        detect_device_loss(session.run),
        policy,
        callbacks,
        run_replica=detect_device_loss(session.run_replica),
    )
    return Model(name, version, artifact, session.provider, batcher, attention)


def _format_key(key: Key) -> str:
    return f"{key[0]}/{key[1]}"


def _describe_version(version: int, entry: Entry) -> dict[str, Any]:
    model = entry.model
    return {
        "version": str(version),
        "state": entry.state,
        "reason": entry.reason,
        "provider": model.provider if model else None,
        "sha256": model.artifact.sha256 if model else None,
        "card": model.artifact.raw_card if model else None,
    }
