"""Options: the parameters of a request, each known, given once and in range."""

from reprlib import repr as shorten
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service.errors import BadRequest
from service.http.form import Form
from service.schemas import PredictOptions

REPEATABLE = "target"
Options = TypeVar("Options", bound=PredictOptions)


def read_options(kind: type[Options], form: Form) -> Options:
    """Read and check the parameters of a request.

    Raises:
        BadRequest: A parameter is given twice, unknown or out of range.
    """
    values: dict[str, Any] = {}
    for name, given in form.values.items():
        if name == REPEATABLE:
            values[name] = given
        elif len(given) == 1:
            values[name] = given[0]
        else:
            raise BadRequest(f"'{name}' was given {len(given)} times: give it once.")
    return validate_options(kind, values)


def validate_options(kind: type[Options], values: dict[str, Any]) -> Options:
    """Check parameters that are given by name.

    Raises:
        BadRequest: A parameter is unknown or out of range.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as exc:
        raise BadRequest(_describe(kind, exc)) from None


def _describe(kind: type[PredictOptions], exc: ValidationError) -> str:
    """Write one sentence on the first parameter that is wrong."""
    error = exc.errors(include_url=False)[0]
    name = ".".join(str(step) for step in error["loc"][:1])
    if error["type"] == "extra_forbidden":
        known = ", ".join(["image", *kind.model_fields])
        return f"There is no parameter '{name}' here: use {known}."
    if not name:
        conflict = error["msg"].removeprefix("Value error, ")
        return f"The parameters contradict each other: {conflict}."
    return f"'{name}' must {describe_rule(error)}, got {shorten(error['input'])}."


def describe_rule(error: ErrorDetails) -> str:
    """Return what pydantic says that a value should do, such as "be a valid integer"."""
    _, _, rule = error["msg"].partition("should ")
    return rule.partition(", unable")[0] or "be valid"
