"""A version of a model that is loaded and warmed up, with the queue in front of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from typing_extensions import TypedDict

from service.artifact.card import Artifact
from service.artifact.layout import Key
from service.imaging.mask import make_palette
from service.repository.attention import Attention
from service.repository.label_index import LabelIndex
from service.runtime.batcher import BatchCallbacks, Batcher, DeviceLost
from service.runtime.device import detect_device_loss
from service.runtime.engine import Engine, Session
from service.runtime.opening import choose_batch_size
from service.runtime.policy import BatchPolicy
from service.schemas import VersionState
from service.settings import Settings
from service.telemetry.metrics import BATCH_SIZE


class ListedVersion(VersionState):
    """One version in `/models`."""

    card: bytes | None  # as JSON


class ListedModel(TypedDict):
    """One model in `/models`."""

    name: str
    default: bool
    versions: list[ListedVersion]


CLOSED_FORM = "closed-form"  # a compiler whose maps cost almost nothing


@dataclass(frozen=True)
class Model:
    """One version, loaded and warmed up."""

    name: str
    version: str
    artifact: Artifact
    provider: str
    engine: Engine
    batcher: Batcher
    attention: Attention
    label_index: LabelIndex

    @cached_property
    def segments(self) -> bool:
        """Return whether the model gives each pixel a class, not the whole picture."""
        return self.artifact.card.segments

    @cached_property
    def palette(self) -> bytes:
        """Return the colours of the classes in a mask: 256 RGB triples."""
        return make_palette(self.artifact.card.palette, len(self.labels))

    @property
    def labels(self) -> list[str]:
        """Return the K labels, in the order of the logits."""
        return self.artifact.card.labels


def make_model(
    key: Key,
    artifact: Artifact,
    session: Session,
    settings: Settings,
    on_device_lost: Callable[[DeviceLost], None],
) -> Model:
    """Put a loaded session behind a queue. With many labels this takes long."""
    name, version = key[0], str(key[1])
    attention = Attention(name, version, artifact)
    policy = BatchPolicy(
        choose_batch_size(settings, session.provider),
        settings.max_queue_delay_ms / 1000,
        session.replicas,
        session.rows_alone,
        session.run_inline,
        min_targets=int(artifact.card.gradcam.compiler == CLOSED_FORM),
        has_regions=artifact.card.segments,
    )
    callbacks = BatchCallbacks(BATCH_SIZE.labels(name).observe, attention.add, on_device_lost)
    batcher = Batcher(
        detect_device_loss(session.run),
        policy,
        callbacks,
        run_replica=detect_device_loss(session.run_replica),
    )
    label_index = LabelIndex(artifact.card.labels)
    provider, engine = session.provider, session.engine
    return Model(name, version, artifact, provider, engine, batcher, attention, label_index)
