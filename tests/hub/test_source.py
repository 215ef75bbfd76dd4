"""An address says what is fetched and what the model may be called."""

from pathlib import Path

import pytest

from hub.errors import HubError
from hub.source import parse_source

ADDRESSES = [
    ("hf://someone/birds", "hf://someone/birds/model.onnx", "birds"),
    ("hf://someone/Birds@v2", "hf://someone/Birds@v2/model.onnx", "birds"),
    ("hf://someone/zoo@main/crows/3", "hf://someone/zoo@main/crows/3/model.onnx", "crows"),
    ("s3://bucket/models/birds/3", "s3://bucket/models/birds/3/model.onnx", "birds"),
    ("gs://bucket/crows.onnx", "gs://bucket/crows.onnx", "crows"),
    ("https://host/a/birds/2/model.onnx?key=1", "https://host/a/birds/2/model.onnx?key=1", "birds"),
    ("https://host/", "https://host/", None),
    ("https://host/download%20me.onnx", "https://host/download%20me.onnx", "download-me"),
]


@pytest.mark.parametrize(("text", "url", "name"), ADDRESSES)
def test_an_address_is_read(text: str, url: str, name: str | None) -> None:
    source = parse_source(text)
    assert (source.url, source.guess_name()) == (url, name)


def test_a_folder_is_the_model_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "birds" / "4"
    folder.mkdir(parents=True)
    for text in (str(folder), f"file://{folder}"):
        source = parse_source(text)
        assert (source.url, source.guess_name()) == (str(folder / "model.onnx"), "birds")


@pytest.mark.parametrize("text", ["ftp://host/a.onnx", "s3://", "hf://birds", "git://host/birds"])
def test_another_address_is_refused_with_those_that_can_be_read(text: str) -> None:
    with pytest.raises(HubError, match=r"hf://owner/repository"):
        parse_source(text)
