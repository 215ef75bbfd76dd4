"""FastAPI and onnxruntime: a plain `def` route, which FastAPI runs in its thread pool.

uvicorn alternatives.fastapi_app:app --workers 2
"""

from typing import Any

from alternatives.model import Model
from fastapi import Body, FastAPI

app = FastAPI()
model = Model()


@app.post("/predict")
def predict(image: bytes = Body(media_type="application/octet-stream")) -> dict[str, Any]:
    """Classify the picture in the raw body."""
    return model.predict([model.decode(image)])[0]
