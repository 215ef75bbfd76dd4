"""Versions are added, changed, broken and removed under load: no answer may be mixed up.

Each version has its own labels. So an answer with one version's name and another's labels is found.
"""

import asyncio
import json
import shutil
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from tests.contract.tree import Tree
from tests.reliability.client import Reply
from tests.reliability.loss import load_during, make_quarters
from tests.server import Server, wait_until
from tests.service.quadrants_model import LABELS, encode, light, write_model

NAME = "quadrants"


class Step(NamedTuple):
    """A change of the model repository and the expected result."""

    what: str
    do: Callable[[], None]
    version: int
    state: str | None  # expected in `/models`; None: not listed


class StepResult(NamedTuple):
    """A step, its state, and the reason in `/models`."""

    what: str
    state: str
    reason: str | None


class Outcome(NamedTuple):
    """The outcome of the load during all steps."""

    sent: int
    failed: list[str]
    mixed_up: list[str]  # answers with the labels of another version
    answered_by: list[str]  # version and generation of the labels, in the order of the requests
    results: list[StepResult]


def name_labels(version: int, generation: int = 1) -> list[str]:
    """Return the labels of a version."""
    suffix = f" {version}.{generation}"
    return [label + suffix for label in LABELS]


def make_steps(tree: Tree, scratch: Path) -> list[Step]:
    """Return the steps, including the usual mistakes. Version 1 already exists."""

    def write(version: int, generation: int = 1, **changes: Any) -> None:
        labels = name_labels(version, generation)
        write_model(tree.path(NAME, version), labels=labels, **changes)

    def put(version: int, content: bytes) -> None:
        path = tree.path(NAME, version)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_bytes(content)
        temporary.rename(path)

    def read(version: int) -> bytes:
        return tree.path(NAME, version).read_bytes()

    def write_lying() -> None:
        card = write_model(scratch / "lying.onnx", labels=name_labels(5))
        golden = [picture | {"probabilities": [0.25] * 4} for picture in card["golden"]]
        write(5, golden=golden)

    def overwrite_in_place() -> None:
        write_model(scratch / "third.onnx", labels=name_labels(2, 3))
        with tree.path(NAME, 2).open("r+b") as file:  # like rsync --inplace and cp
            file.write((scratch / "third.onnx").read_bytes())
            file.truncate()

    def remove(*versions: int) -> Callable[[], None]:
        def remove_now() -> None:
            for version in versions:
                shutil.rmtree(tree.path(NAME, version).parent)

        return remove_now

    return [
        Step("a version added", lambda: write(2), 2, "ready"),
        Step("a truncated file added", lambda: put(3, read(2)[:-200]), 3, "failed"),
        Step("a picture added as a model", lambda: put(4, encode(light(0))), 4, "failed"),
        Step("one whose golden probe fails added", write_lying, 5, "failed"),
        Step("an empty file added", lambda: put(6, b""), 6, "failed"),
        Step("the serving file truncated", lambda: put(2, read(2)[:-200]), 2, "failed"),
        Step("the serving file replaced", lambda: write(2, 2), 2, "ready"),
        Step("the serving file overwritten in place", overwrite_in_place, 2, "ready"),
        Step(
            "the newest, unfit ones removed",
            remove(3, 4, 5, 6),
            6,
            None,
        ),
        Step("the serving version removed", remove(2), 2, None),
    ]


def deploy(server: Server, models: Path, scratch: Path) -> Outcome:
    """Take all steps under load, each after the last one is visible."""
    tree = Tree(server, models)
    results: list[StepResult] = []

    def take(step: Step) -> StepResult:
        before = tree.see(NAME, step.version)
        step.do()
        seen = tree.wait(step.state, NAME, step.version)
        if before and step.state == "ready" and before["state"] == "ready":
            seen = wait_changed(tree, step.version, before["sha256"])
        return StepResult(step.what, step.state or "gone", seen.get("reason"))

    async def take_all() -> str:
        for step in make_steps(tree, scratch):
            results.append(await asyncio.to_thread(take, step))
            await asyncio.sleep(0.3)
        return ""

    exchanges, _ = asyncio.run(load_during(server.port, take_all, make_quarters()))
    return judge([(one.quarter, one.reply) for one in exchanges], results)


def wait_changed(tree: Tree, version: int, sha256: str) -> dict[str, Any]:
    """Wait until another file answers, and return its entry."""

    def has_changed() -> bool:
        seen = tree.see(NAME, version)
        return bool(seen and seen["sha256"] != sha256 and seen["state"] == "ready")

    wait_until(has_changed, describe=tree.server.read_log)
    return tree.see(NAME, version) or {}


def judge(exchanges: list[tuple[int, Reply]], results: list[StepResult]) -> Outcome:
    """Check that each answer is 200 and has a label of its own version."""
    failed, mixed_up, answered_by = [], [], []
    answered_at = 0.0
    for quarter, reply in exchanges:
        if reply.status != 200:
            failed.append(f"{reply.status} {reply.fault} {reply.body[:200]!r}")
            continue
        answer = json.loads(reply.body)
        label, version = answer["predictions"][0]["label"], answer["version"]
        own, _, generation = label.removeprefix(LABELS[quarter]).strip().partition(".")
        if not label.startswith(LABELS[quarter]) or (own or "1") != version:
            mixed_up.append(f"version {version} said '{label}'")
        if reply.sent_at >= answered_at:  # concurrent requests have no order
            answered_at = reply.sent_at + reply.seconds
            answered_by.append(f"{version}.{generation}" if generation else version)
    return Outcome(
        len(exchanges), failed, mixed_up, [by for by, _ in groupby(answered_by)], results
    )
