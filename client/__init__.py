"""A client for the service, for programs in Python: `Client`, and `AsyncClient` for asyncio."""

from client.answers import (
    Answer,
    AnswerWarning,
    Explanation,
    Heatmap,
    Prediction,
    Verification,
)
from client.clients import AsyncClient, Client
from client.errors import (
    BadRequest,
    ConnectionFailed,
    InvalidPicture,
    ModelNotFound,
    NotReady,
    Overloaded,
    ServiceFailure,
    SightglassError,
    Timeout,
    TooLarge,
    Unauthorized,
    UnknownLabel,
)

__all__ = [
    "Answer",
    "AnswerWarning",
    "AsyncClient",
    "BadRequest",
    "Client",
    "ConnectionFailed",
    "Explanation",
    "Heatmap",
    "InvalidPicture",
    "ModelNotFound",
    "NotReady",
    "Overloaded",
    "Prediction",
    "ServiceFailure",
    "SightglassError",
    "Timeout",
    "TooLarge",
    "Unauthorized",
    "UnknownLabel",
    "Verification",
]
