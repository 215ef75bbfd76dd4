"""Settings that are checked where they are made, and refused in one sentence.

Knows no field of its own: what a field accepts is read from its type.
"""

import difflib
import json
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from training.errors import UserError

CHECKED = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "text",
    dict: "a dictionary",
    NoneType: "None",
}


@dataclass(frozen=True, config=CHECKED)
class Settings:
    """A frozen dataclass whose fields are checked when it is made: UserError in one sentence."""

    PREFIX: ClassVar[str] = ""  # before the names of the fields in a sentence

    @model_validator(mode="wrap")
    @classmethod
    def explain(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            raise UserError(describe_error(cls, error.errors()[0])) from None


def describe_error(owner: type[Settings], error: ErrorDetails) -> str:
    """The sentence for the first thing that pydantic finds wrong in a class of settings."""
    types = get_type_hints(owner, include_extras=True)
    names = [name for name, kind in types.items() if get_origin(kind) is not ClassVar]
    if not error["loc"]:
        return describe_value(owner.PREFIX.rstrip("."), f"{owner.__name__}(...)", error["input"])
    place = error["loc"][0]
    name = names[place] if isinstance(place, int) and place < len(names) else str(place)
    if name not in names:
        return describe_unknown("setting", name, names, owner.PREFIX)
    accepted = describe_type(types[name])
    if error["type"].startswith("missing"):
        return f"`{owner.PREFIX}{name}` is missing. It must be {accepted}."
    return describe_value(f"{owner.PREFIX}{name}", accepted, error["input"])


def describe_value(name: str, accepted: str, value: object) -> str:
    """The sentence for one field: what it accepts, and what it got."""
    return f"`{name}` must be {accepted}, got {quote(value)}."


def describe_unknown(noun: str, name: str, known: Iterable[str], prefix: str = "") -> str:
    """The sentence for an unknown name, with the nearest known name, or else all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"Did you mean `{prefix}{near[0]}`?" if near else f"Accepted are: {', '.join(known)}."
    return f"There is no {noun} `{prefix}{name}`. {hint}"


def quote(value: object) -> str:
    """A value as a user writes it; text in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def describe_type(kind: Any) -> str:
    """What a field of this type accepts, for example "an integer of at least 1"."""
    if get_origin(kind) is Annotated:
        base, *notes = get_args(kind)
        fields = [note for note in notes if isinstance(note, FieldInfo)]
        for field in fields:
            if field.description:
                return field.description
        return " ".join([describe_type(base), *describe_bounds(fields)])
    if get_origin(kind) is Literal:
        return join_choices([str(choice) for choice in get_args(kind)])
    if get_origin(kind) in (Union, UnionType):
        return join_choices([describe_type(choice) for choice in get_args(kind)])
    if get_origin(kind) is tuple:
        return f"a tuple of {describe_type(get_args(kind)[0]).replace('a number', 'numbers')}"
    return WORDS.get(get_origin(kind) or kind) or f"{kind.__name__}(...)"


def describe_bounds(fields: Iterable[FieldInfo]) -> list[str]:
    """The bounds of a number in words, for example "from 0 to 1" or "of at least 1"."""
    found = {
        key: f"{word} {getattr(note, key)}"
        for field in fields
        for note in field.metadata
        for key, word in BOUNDS.items()
        if hasattr(note, key)
    }
    text = " and ".join(found.values())
    if found.keys() == {"ge", "le"}:
        text = text.replace("at least", "from").replace("and at most", "to")
    elif "ge" in found:
        text = f"of {text}"
    return [text] if text else []


def join_choices(choices: list[str]) -> str:
    """Choices as a list in words: a, b or c."""
    return " or ".join([", ".join(choices[:-1]), choices[-1]] if len(choices) > 1 else choices)
