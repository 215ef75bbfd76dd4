"""The model repository as it is served: models are found, loaded, replaced and removed.

Loading happens in a thread of its own. What is served changes on the event loop, between two
requests. A request keeps its model, so an old version lives until its last answer.
"""

import asyncio
import gc
import logging
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from textwrap import shorten
from typing import Literal

from service.artifact.card import InvalidArtifact
from service.artifact.layout import FILE_NAME, Key, Stamp, make_model_path
from service.errors import ModelNotFound, NotReady, excerpt
from service.repository.default_model import DefaultModel
from service.repository.folder import ModelFolder
from service.repository.loader import load_model_file, release_memory
from service.repository.model import ListedModel, ListedVersion, Model, make_model
from service.repository.recovery import Recovery
from service.repository.sandbox import Sandbox
from service.repository.trial import try_model_file
from service.runtime.batcher import DeviceLost
from service.runtime.engine import Engine
from service.schemas import EngineEntry
from service.settings import Settings
from service.telemetry.log import with_fields
from service.telemetry.metrics import DEVICE_FAILURES, keep_models

MAX_NAMED = 20  # models in a sentence
NEWEST_FIRST = 2  # versions that may fail before the oldest one is tried as well
MAX_CARDS_BYTES = 256 << 20  # of all models together
REASON_CHARACTERS = 1000  # a message may quote the content of a file

log = logging.getLogger(__name__)
State = Literal["loading", "ready", "failed"]


@dataclass
class Entry:
    """The state of one file; `model` still serves if a later file at its place failed to load."""

    stamp: Stamp
    state: State = "loading"
    reason: str | None = None
    model: Model | None = None
    is_queued: bool = True  # to be loaded


class Repository:
    """The models of a folder `<name>/<version>/model.onnx`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._entries: dict[Key, Entry] = {}
        self._versions: dict[str, dict[int, Entry]] = {}  # the same by name, oldest first
        self._default = DefaultModel(settings.default_model)
        self._folder = ModelFolder(settings.models_dir)
        self._scanned = False
        # A request may still use them.
        self._unloaded: list[tuple[str, weakref.ref[Model]]] = []
        self.sandbox = Sandbox(partial(try_model_file, settings))
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
        """Scan the folder and load what is new or has changed.

        It is scanned again after each file: loading may take long, and what else changes must not
        wait for it.
        """
        loaded: set[Key] = set()  # a file that changes all the time waits for the next call
        await self._scan()
        while queued := {key for key, entry in self._entries.items() if entry.is_queued} - loaded:
            key = self._choose_next(queued)
            await self._load(key, self._entries[key])
            loaded.add(key)
            await self._scan()

    async def _scan(self) -> None:
        known = {key: entry.stamp for key, entry in self._entries.items()}
        fresh, gone = await asyncio.get_running_loop().run_in_executor(
            self._loader, self._folder.scan, known, self._settings.default_model
        )
        is_first, self._scanned = not self._scanned, True
        for key in gone:
            name, version = key
            removed = self._entries.pop(key)
            del self._versions[name][version]
            if not self._versions[name]:
                del self._versions[name]
            if removed.model:
                removed.model.attention.discard()
            self._unload(removed)
            log.info("model removed", extra=with_fields(model=_format_key(key)))
        for key, stamp in fresh.items():
            name, version = key
            entry = self._entries.setdefault(key, Entry(stamp))
            self._versions.setdefault(name, {})[version] = entry
            entry.stamp, entry.state, entry.reason = stamp, "loading", None
            entry.is_queued = True
            log.info("model loading", extra=with_fields(model=_format_key(key)))
        for name in {name for name, _ in fresh}:
            self._versions[name] = dict(sorted(self._versions[name].items()))
        self._choose_default()
        if is_first:  # an earlier worker with the same files may have known other models
            await self._keep_metrics()
        await self._release_memory()

    def _choose_default(self) -> None:
        before = self._default.reference
        ready = {name for (name, _), entry in self._entries.items() if entry.model}
        loading = {name for (name, _), entry in self._entries.items() if entry.state == "loading"}
        self._default.choose(ready, loading)
        if self._default.reference not in (before, None):
            log.info("default model", extra=with_fields(model=self._default.reference))

    def _unload(self, entry: Entry) -> None:
        """Forget the model of an entry; its memory is returned after its last answer."""
        if entry.model:
            self._unloaded.append((entry.model.name, weakref.ref(entry.model)))
        entry.model = None

    async def _release_memory(self) -> None:
        """Return the memory of models that no request uses any more."""
        used = [(name, model) for name, model in self._unloaded if model() is not None]
        if len(used) < len(self._unloaded):
            self._unloaded = used
            await asyncio.get_running_loop().run_in_executor(self._loader, release_memory)
            await self._keep_metrics()

    async def _keep_metrics(self) -> None:
        """Remove the metrics of models that are gone and that no request uses any more."""
        names = {*self._versions, *(name for name, _ in self._unloaded)}
        await asyncio.get_running_loop().run_in_executor(self._loader, keep_models, names)

    def find(self, reference: str | None) -> Model:
        """Return the model for `name` or `name/version`; None means the default model.

        Raises:
            ModelNotFound: there is no such model.
            NotReady: there is, but no version of it is loaded.
        """
        if reference is None:
            reference = self._default.reference
            if reference is None:
                raise NotReady(self._describe_no_default())
        name, _, version = reference.partition("/")
        entries = [
            entry
            for its, entry in list(self._versions.get(name, {}).items())  # in a thread, they change
            if not version or str(its) == version
        ]
        if not entries:
            if not self._scanned:
                raise NotReady("The models are still loading.")
            raise ModelNotFound(self._describe_unknown(reference))
        for entry in reversed(entries):
            if entry.model:
                return entry.model
        newest = entries[-1]
        state = "failed to load" if newest.state == "failed" else "is still loading"
        reason = f" ({newest.reason})" if newest.reason and newest.state == "loading" else ""
        raise NotReady(f"The model '{reference}' {state}{reason}.")

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
        return sorted(self._versions)

    def list_served(self, name: str) -> list[str]:
        """Return the versions of a model that can answer, oldest first."""
        versions = self._versions.get(name, {})
        return [str(version) for version, entry in versions.items() if entry.model]

    def loaded(self) -> list[Model]:
        """Return all versions that can answer."""
        return [entry.model for _, entry in sorted(self._entries.items()) if entry.model]

    def describe(self, name: str) -> ListedModel:
        """Return the entry of a model in `/models`.

        Raises:
            ModelNotFound: there is no such model.
        """
        if name not in self._versions:
            raise ModelNotFound(self._describe_unknown(name))
        return {
            "name": name,
            "default": name == self._default.name,
            "versions": [_describe_version(*pair) for pair in self._versions[name].items()],
        }

    def describe_all(self) -> list[ListedModel]:
        """Return the entries of all models, sorted by name."""
        return [self.describe(name) for name in self.names()]

    def _choose_next(self, queued: set[Key]) -> Key:
        """Load the newest version of the default model first: it makes the service ready.

        New versions of models that answer come next: they must not wait for a file that hangs. If
        the newest versions of a model fail, the oldest one comes in between, so that others that
        fail as well do not keep the model away.
        """
        served = {name for (name, _), entry in self._entries.items() if entry.model}
        states = Counter((name, entry.state) for (name, _), entry in self._entries.items())

        def rank(key: Key) -> tuple[bool, bool, str, int]:
            name, version = key
            failed = states[name, "failed"]
            is_oldest_next = name not in served and failed >= NEWEST_FIRST and failed % 2 == 0
            by_age = version if is_oldest_next else -version
            return (name != self._default.name, name not in served, name, by_age)

        return min(queued, key=rank)

    async def _load(self, key: Key, entry: Entry) -> None:
        loop = asyncio.get_running_loop()
        path = make_model_path(self._settings.models_dir, key)
        entry.is_queued = False
        reason = None
        # Not the entry itself: a model that refers to itself would not be freed when it is removed.
        on_device_lost = partial(self._recover, key)

        room = MAX_CARDS_BYTES - self._count_card_bytes(key)

        def load() -> Model:
            artifact, session = load_model_file(path, self._settings, self.sandbox)
            if len(artifact.public_card) > room:
                raise InvalidArtifact(
                    f"The cards of all models have more than {MAX_CARDS_BYTES} bytes with {path}."
                )
            model = make_model(key, artifact, session, self._settings, on_device_lost)
            gc.collect()
            gc.freeze()  # later collections need not look at the model: with many labels it is slow
            return model

        try:
            model = await loop.run_in_executor(self._loader, load)
        except Exception as exc:  # whatever one file does, the others are still served
            reason = shorten(str(exc), REASON_CHARACTERS)
        if reason is not None:
            entry.state, entry.reason = "failed", reason
            log.error("model failed", extra=with_fields(model=_format_key(key), reason=reason))
            await loop.run_in_executor(self._loader, release_memory)
            return
        sha256 = model.artifact.sha256
        if entry.model and entry.model.artifact.sha256 != sha256:
            entry.model.attention.discard()
        self._unload(entry)
        entry.model = model
        entry.state, entry.reason = "ready", None
        log.info(
            "model ready",
            extra=with_fields(
                model=_format_key(key),
                provider=model.provider,
                engine=_describe_engine(model.engine),
                sha256=sha256,
            ),
        )

    def _count_card_bytes(self, key: Key) -> int:
        """Count the bytes of all cards but the one of this version."""
        models = [entry.model for other, entry in self._entries.items() if other != key]
        return sum(len(model.artifact.public_card) for model in models if model)

    def _recover(self, key: Key, lost: DeviceLost) -> None:
        """Unload a version whose device failed and load it again; the second time, give up."""
        log.error("device failed", extra=with_fields(model=_format_key(key), reason=str(lost)))
        DEVICE_FAILURES.labels(key[0]).inc()
        entry = self._entries.get(key)
        if entry is None:  # it was removed in the meantime
            return
        self._unload(entry)
        entry.state, entry.reason = "loading", str(lost)
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
        known = _enumerate(self.names()) or "none"
        return f"There is no model '{excerpt(reference)}' here; there are: {known}."

    def _describe_no_default(self) -> str:
        entries = self._entries.items()
        if not self._scanned or any(entry.state == "loading" for _, entry in entries):
            return "The models are still loading."
        if entries:
            failed = _enumerate([_format_key(key) for key in sorted(self._entries)])
            return f"No model is ready; these failed to load: {failed}."
        if self._folder.faults:
            return self._folder.faults[0]
        path = self._folder.path / "<name>" / "<version>" / FILE_NAME
        return f"There is no model here: put one at {path}."


def _enumerate(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _format_key(key: Key) -> str:
    return f"{key[0]}/{key[1]}"


def _describe_version(version: int, entry: Entry) -> ListedVersion:
    model = entry.model
    return {
        "version": str(version),
        "state": entry.state,
        "reason": entry.reason,
        "provider": model.provider if model else None,
        "engine": _describe_engine(model.engine) if model else None,
        "sha256": model.artifact.sha256 if model else None,
        "card": model.artifact.public_card if model else None,
    }


def _describe_engine(engine: Engine) -> EngineEntry:
    name, precision, speedup, reason = engine
    return {"name": name, "precision": precision, "speedup": speedup, "reason": reason}
