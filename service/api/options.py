"""Options: the parameters of a request, each known, given once and in range."""

import re
from reprlib import repr as shorten
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service.errors import BadRequest, excerpt
from service.http.form import Form
from service.parameters import ModelOptions

LISTS = ("target", "box", "point")  # may have several values
Options = TypeVar("Options", bound=ModelOptions)


def read_options(kind: type[Options], form: Form) -> Options:
    """Read and check the parameters of a request.

    Raises:
        BadRequest: A parameter is given twice, unknown or out of range.
    """
    values: dict[str, Any] = {}
    for name, given in form.values.items():
        if name in LISTS:
            values[name] = given
        elif len(given) == 1:
            values[name] = given[0]
        else:
            raise BadRequest(f"'{excerpt(name)}' was given {len(given)} times: give it once.")
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


def _describe(kind: type[ModelOptions], exc: ValidationError) -> str:
    """Write one sentence on the first parameter that is wrong."""
    details = exc.errors(include_url=False)
    place = details[0]["loc"][:1]
    is_half_a_pair = details[0]["type"] == "string_unicode" and not place  # in the name
    if details[0]["type"] == "extra_forbidden" or is_half_a_pair:
        known = ", ".join(["image", *kind.model_fields])
        name = str(details[0]["input"] if is_half_a_pair else place[0])
        return f"There is no parameter '{excerpt(name)}' here: use {known}."
    if not place:
        conflict = details[0]["msg"].removeprefix("Value error, ")
        return f"The parameters contradict each other: {conflict}."
    rules = dict.fromkeys(describe_rule(detail) for detail in details if detail["loc"][:1] == place)
    return f"'{place[0]}' must {' or '.join(rules)}, got {shorten(details[0]['input'])}."


def describe_rule(detail: ErrorDetails) -> str:
    """Return what pydantic says that a value should do, such as "be a valid integer"."""
    _, _, rule = detail["msg"].partition("should ")
    return re.split(", unable| after validation", rule)[0] or "be valid"
