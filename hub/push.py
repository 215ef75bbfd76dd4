"""Publishes a version of a model on Hugging Face: file, signature, card as README.md, pictures."""

import json
import os
from pathlib import Path
from typing import Any

from hub.errors import HubError
from hub.signature import SIGNATURE_FILE
from hub.source import REPOSITORY
from service.artifact.card import InvalidArtifact
from service.artifact.layout import FILE_NAME
from service.artifact.validation import read_artifact
from service.errors import decode_name

PICTURES = ("*.png", "*.jpg")  # of the report, which its page shows


def push(model: Path, target: str, is_private: bool) -> str:
    """Publish the version in a folder; return the address of the commit.

    Raises:
        HubError: the file is not valid, the target is none, or Hugging Face refuses.
    """
    found = REPOSITORY.fullmatch(target)
    if not found or found["path"]:
        raise HubError(
            "The target must be hf://owner/repository or hf://owner/repository@branch, got "
            f'"{target}".'
        )
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise HubError(
            "Pushing needs the package huggingface_hub. Install the extra: pip install "
            '"sightglass[hub]"'
        ) from None
    folder = model if model.is_dir() else model.parent
    name = decode_name(folder.absolute().parent.name)
    additions = list_files(folder, target)
    api, branch = HfApi(), found["revision"]
    try:
        api.create_repo(found["repo"], private=is_private or None, exist_ok=True)
        if branch is not None:
            api.create_branch(found["repo"], branch=branch, exist_ok=True)
        commit = api.create_commit(
            found["repo"],
            additions,
            commit_message=f"Model {name}, version {decode_name(folder.name)}",
            revision=branch,
        )
    except (HfHubHTTPError, HFValidationError, OSError) as exc:
        said = " ".join(str(exc).split())
        raise HubError(f"Hugging Face did not take {folder}: {said}") from None
    return str(commit.commit_url)


def list_files(folder: Path, target: str) -> list[Any]:
    """What a commit adds.

    Raises:
        HubError: the model file is not valid.
    """
    from huggingface_hub import CommitOperationAdd

    from hub.front_matter import make_readme

    try:
        artifact, content = read_artifact(folder / FILE_NAME)
    except InvalidArtifact as exc:
        raise HubError(str(exc)) from None
    name, report = decode_name(folder.absolute().parent.name), folder / "report"
    page = report / "README.md"
    text = page.read_text("utf-8", "replace") if page.exists() else f"# Model card: {name}\n"
    readme = make_readme(name, json.loads(artifact.public_card), text, target)
    signatures = [path for path in [folder / SIGNATURE_FILE] if path.exists()]
    pictures = [path for pattern in PICTURES for path in sorted(report.glob(pattern))]
    return [
        CommitOperationAdd(FILE_NAME, content),
        CommitOperationAdd("README.md", readme.encode()),
        *(CommitOperationAdd(decode_name(path.name), path) for path in [*signatures, *pictures]),
    ]
