"""mosec: a Rust server in front of Python worker processes that decode and run batches of 8."""

import json
import os
from typing import Any

from alternatives.model import Model
from mosec import Server, Worker


class Classifier(Worker):
    """Takes raw bytes and returns JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    def deserialize(self, data: bytes) -> bytes:
        """Return the raw body, which is the picture."""
        return data

    def serialize(self, data: dict[str, Any]) -> bytes:
        """Encode the answer as JSON."""
        return json.dumps(data).encode()

    def forward(self, data: Any) -> Any:
        """Classify one picture, or a batch if batches are on."""
        if isinstance(data, list):
            return self.model.predict([self.model.decode(content) for content in data])
        return self.model.predict([self.model.decode(data)])[0]


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Classifier,
        num=int(os.environ["BENCH_PROCESSES"]),
        max_batch_size=int(os.environ["BENCH_BATCH"]),
        max_wait_time=1,
    )
    server.run()
