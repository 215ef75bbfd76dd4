"""Which maps of masks count as traffic: those of a class over all of its own pixels."""

from typing import Any

import pytest

from tests.contract.segmentation.requests import post
from tests.contract.wire import read_metric
from tests.server import Server
from tests.service.mask_model import BLUE, LABELS, RED, paint

PICTURE = paint((RED, (4, 4, 20, 12)), (BLUE, (18, 10, 30, 23)), size=(32, 24))
ASKED: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "predict": ("/predict", {}, set()),
    "largest": ("/gradcam", {}, {"blue"}),
    "target": ("/gradcam", {"target": "red"}, {"red"}),
    "against": ("/gradcam", {"target": "red", "against": "blue"}, {"red"}),
    "top": ("/gradcam", {"target_top": 3}, {*LABELS}),
    "verify": ("/gradcam", {"verify": "true"}, {"blue"}),
    "point": ("/gradcam", {"point": "6,6"}, set()),
    "box": ("/gradcam", {"box": "0,0,10,10"}, set()),
    "other pixels": ("/gradcam", {"target": "red", "of": "blue"}, set()),
}


def count_maps(server: Server) -> dict[str, int]:
    """The counted maps by class, which must be those of the metrics."""
    seen = server.client.get("/models/cells/attention").json()
    counted = {label: found["observed"]["maps"] for label, found in seen["classes"].items()}
    metric = read_metric(server, "sightglass_attention_maps_total", model="cells", version="1")
    assert metric == seen["observed"]["maps"] == sum(counted.values())
    return {label: counted.get(label, 0) for label in LABELS}


@pytest.mark.parametrize("name", ASKED)
def test_a_map_is_counted_if_it_explains_a_class_in_the_whole_picture(
    segmenting: Server, name: str
) -> None:
    call, options, classes = ASKED[name]
    before = count_maps(segmenting)
    assert post(segmenting, call, PICTURE, model="cells", **options).status_code == 200
    after = count_maps(segmenting)
    assert {label for label in LABELS if after[label] > before[label]} == classes
    assert sum(after.values()) - sum(before.values()) == len(classes)
