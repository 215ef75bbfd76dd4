"""BentoML as its documentation shows it: `batchable=True`, pictures as files.

bentoml serve alternatives.bentoml_app:Classifier
"""

import os
from pathlib import Path
from typing import Any

import bentoml
from alternatives.model import Model


@bentoml.service(workers=int(os.environ["BENCH_PROCESSES"]), traffic={"timeout": 60})
class Classifier:
    """Each worker has its own model and its own dispatcher."""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=10_000)
    def predict(self, images: list[Path]) -> list[dict[str, Any]]:
        """Decode and classify the batch."""
        return self.model.predict([self.model.decode(path.read_bytes()) for path in images])
