"""LitServe: decoding in its worker, batches of 8, two workers."""

import os
import sys
from base64 import b64decode
from typing import Any

import litserve
from alternatives.model import Model


class Classifier(litserve.LitAPI):
    """The five steps that LitServe asks for; batching and unbatching are its own."""

    def setup(self, device: str) -> None:
        """Load the model, once in each worker."""
        self.model = Model()

    def decode_request(self, request: dict[str, str]) -> bytes:
        """The picture is base64 in JSON."""
        return b64decode(request["image"])

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """Keep the pictures a list."""
        return inputs

    def predict(self, contents: list[bytes]) -> list[dict[str, Any]]:
        """Decode and run the batch."""
        return self.model.predict([self.model.decode(content) for content in contents])

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each its own."""
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
