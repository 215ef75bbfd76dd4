"""LitServe with two workers that decode and run batches of 8."""

import os
import sys
from base64 import b64decode
from typing import Any

import litserve
from alternatives.model import Model


class Classifier(litserve.LitAPI):
    """The five steps that LitServe requires. LitServe forms and splits the batches itself."""

    def setup(self, device: str) -> None:
        """Load the model once in each worker."""
        self.model = Model()

    def decode_request(self, request: dict[str, str]) -> bytes:
        """Decode the base64 picture in the JSON body."""
        return b64decode(request["image"])

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """Keep the pictures as a list."""
        return inputs

    def predict(self, contents: list[bytes]) -> list[dict[str, Any]]:
        """Decode and classify the batch."""
        return self.model.predict([self.model.decode(content) for content in contents])

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return one answer per picture."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """JSON as it is."""
        return output


if __name__ == "__main__":
    api = Classifier(max_batch_size=8, batch_timeout=0.002)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=int(os.environ["BENCH_PROCESSES"])
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
