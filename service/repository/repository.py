"""The models being served: found in the tree, loaded, warmed, swapped, removed.

Loading happens in one thread of its own; what is served changes on the event loop, between two
requests. A request holds the model it was given, so an old version lives until its last answer.
"""

import asyncio
import gc
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from textwrap import shorten
from typing import Any, Literal

from service.artifact.card import Artifact
from service.artifact.layout import FILE_NAME, Key, Stamp, find_model_files, make_model_path
from service.errors import ModelNotFound, NotReady
from service.repository.attention import Attention
from service.repository.loader import load_model_file, try_model_file
from service.repository.recovery import Recovery
from service.repository.sandbox import Sandbox
from service.runtime.batcher import Batcher, DeviceLost
from service.runtime.device import detect_device_loss
from service.runtime.session import choose_batch_size
from service.settings import Settings
from service.telemetry.log import with_fields
from service.telemetry.metrics import BATCH_SIZE, DEVICE_FAILURES

REASON_CHARACTERS = 1000  # of a sentence that may quote a file
CLOSED_FORM = "closed-form"  # a compiler whose maps cost nothing worth measuring

log = logging.getLogger(__name__)
State = Literal["loading", "ready", "failed"]


@dataclass(frozen=True)
class Model:
    """One version, loaded and warm."""

    name: str
    version: str
    artifact: Artifact
    provider: str
    batcher: Batcher
    attention: Attention

    @cached_property
    def indices(self) -> dict[str, int]:
        """The index of each label."""
        return {label: index for index, label in enumerate(self.labels)}

    @property
    def labels(self) -> list[str]:
        """The K labels, in the order of the logits."""
        return self.artifact.card.labels


@dataclass
class Entry:
    """What is known of one file in the tree; `model` serves although a later load failed."""

    stamp: Stamp
    state: State = "loading"
    reason: str | None = None
    model: Model | None = None


class Repository:
    """The tree `<name>/<version>/model.onnx` as it is served."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._entries: dict[Key, Entry] = {}
        self._scanned = False
        self.sandbox = Sandbox(try_model_file)
        self._recovery = Recovery(settings.request_timeout_ms / 1000)
        self._recovering: asyncio.Future[None] | None = None
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")

    async def watch(self) -> None:
        """Load what is there, then what changes, until cancelled."""
        while True:
            try:
                await self.refresh()
            except Exception:  # a tree that can't be read now may be readable at the next look
                log.exception("the models could not be looked at")
            if not self._settings.model_poll_seconds:
                return
            await asyncio.sleep(self._settings.model_poll_seconds)

    async def refresh(self) -> None:
        """Look at the tree once and load what is new or has changed since."""
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
        for key in sorted(fresh, key=self._loading_order):
            await self._load(key, self._entries[key])

    def find(self, reference: str | None) -> Model:
        """The model that answers to `name`, `name/version`, or to nothing at all.

        Raises:
            ModelNotFound: the tree has no such model.
            NotReady: it has, but nothing of it is loaded.
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
        why = f" ({newest.reason})" if newest.reason and newest.state == "loading" else ""
        raise NotReady(f"The model '{reference}' {state}{why}.")

    def default_name(self) -> str | None:
        """The model that answers when none is named: as set, or the first by name."""
        if self._settings.default_model:
            return self._settings.default_model
        return min((name for name, _ in self._entries), default=None)

    def reasons_not_ready(self) -> list[str]:
        """Why the default model can't answer; empty when it can."""
        try:
            model = self.find(None)
        except (ModelNotFound, NotReady) as fault:
            return [fault.message]
        if self._recovery.is_overdue(model.batcher.run_seconds):
            return [f"The device has been running one batch for {model.batcher.run_seconds:.0f} s."]
        return []

    def provider(self) -> str | None:
        """What the default model runs on, if it can."""
        try:
            return self.find(None).provider
        except (ModelNotFound, NotReady):
            return None

    def names(self) -> list[str]:
        """All names in the tree."""
        return sorted({name for name, _ in self._entries})

    def loaded(self) -> list[Model]:
        """All versions that can answer."""
        return [entry.model for _, entry in sorted(self._entries.items()) if entry.model]

    def describe(self, name: str) -> dict[str, Any]:
        """A model's entry in `/models`.

        Raises:
            ModelNotFound: the tree has no such model.
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
        """Oldest first."""
        found = [(version, entry) for (own, version), entry in self._entries.items() if own == name]
        return sorted(found, key=lambda pair: pair[0])

    def _is_known(self, key: Key, stamp: Stamp) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry.stamp == stamp

    def _loading_order(self, key: Key) -> tuple[bool, str, int]:
        """The default model's newest version first: it makes the service ready."""
        name, version = key
        return (name != (self.default_name() or "").partition("/")[0], name, -version)

    async def _load(self, key: Key, entry: Entry) -> None:
        loop = asyncio.get_running_loop()
        path = make_model_path(self._settings.models_dir, key)
        try:
            loaded = await loop.run_in_executor(
                self._loader, load_model_file, path, self._settings, self.sandbox
            )
        except Exception as fault:  # whatever a file does, the others go on being served
            reason = shorten(str(fault), REASON_CHARACTERS)
            entry.state, entry.reason = "failed", reason
            log.error("model failed", extra=with_fields(model=_format_key(key), reason=reason))
            return
        artifact, session = loaded
        name, version = key[0], str(key[1])
        attention = Attention(name, version, artifact)
        batcher = Batcher(
            detect_device_loss(session.run),
            choose_batch_size(self._settings, session.provider),
            self._settings.max_queue_delay_ms / 1000,
            BATCH_SIZE.labels(name).observe,
            attention.add,
            int(artifact.card.gradcam.compiler == CLOSED_FORM),
            partial(self._recover, key, entry),
            run_inline=session.run_inline,
            run_replica=detect_device_loss(session.run_replica),
            replicas=session.replicas,
        )
        entry.model = Model(name, version, artifact, session.provider, batcher, attention)
        entry.state, entry.reason = "ready", None
        log.info(
            "model ready",
            extra=with_fields(
                model=_format_key(key), provider=session.provider, sha256=artifact.sha256
            ),
        )

    def _recover(self, key: Key, entry: Entry, fault: DeviceLost) -> None:
        """Let go of a version whose device failed and load it anew, once; else end the process."""
        log.error("device failed", extra=with_fields(model=_format_key(key), reason=str(fault)))
        DEVICE_FAILURES.labels(key[0]).inc()
        entry.model, entry.state, entry.reason = None, "loading", str(fault)
        if self._recovery.may_try_again():
            self._recovering = asyncio.ensure_future(self._load_anew(key, entry))

    async def _load_anew(self, key: Key, entry: Entry) -> None:
        gc.collect()  # the old session's memory
        await self._load(key, entry)
        if entry.model is None:
            self._recovery.give_up(entry.reason or "")

    def check_hung_runs(self) -> None:
        """End the process if a batch has been running since long after anybody waits for it."""
        for model in self.loaded():
            self._recovery.check_hung_run(model.name, model.batcher.run_seconds)

    def _describe_unknown(self, reference: str) -> str:
        known = ", ".join(self.names()) or "none"
        return f"There is no model '{reference}' here; there are: {known}."

    def _describe_no_default(self) -> str:
        if not self._scanned:
            return "The models are still loading."
        wanted = self._settings.models_dir / "<name>" / "<version>" / FILE_NAME
        return f"There is no model here: put one at {wanted}."


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
