"""Reading a request's parameters: given once, known, in range."""

from typing import Any, TypeVar

from pydantic import ValidationError

from service.errors import BadRequest
from service.http.form import Form
from service.schemas import PredictOptions

REPEATABLE = "target"
Options = TypeVar("Options", bound=PredictOptions)


def read_options(kind: type[Options], form: Form) -> Options:
    """The parameters of a request, checked.

    Raises:
        BadRequest: one is given twice, unknown or out of range.
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
    """The parameters by name, checked.

    Raises:
        BadRequest: one is unknown or out of range.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as fault:
        raise BadRequest(_explain(kind, fault)) from None


def _explain(kind: type[PredictOptions], fault: ValidationError) -> str:
    error = fault.errors(include_url=False)[0]
    name = ".".join(str(step) for step in error["loc"][:1])
    wish = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if error["type"] == "extra_forbidden":
        known = ", ".join(["image", *kind.model_fields])
        return f"There is no parameter '{name}' here; there are: {known}."
    if not name:
        return f"The parameters contradict each other: {wish}."
    return f"'{name}' can't be {error['input']!r}: it {wish}."
