"""Tables of the pages that come from the code, each between comments that name it.

`python -m tests.docs.walkthrough <page>` puts them in anew.
"""

import re
from collections.abc import Callable

from service.parameters import ExplainOptions
from service.settings import render_settings


def render_parameters() -> str:
    """The parameters of a request, from the schema that validates them."""
    lines = ["| parameter | default | meaning |", "|---|---|---|"]
    for name, field in ExplainOptions.model_fields.items():
        default = "" if field.default in (None, ()) else f"`{field.default}`"
        lines.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "settings": render_settings,
    "parameters": render_parameters,
}


def find_table(name: str, text: str) -> str | None:
    """What stands between a table's comments; None where the page doesn't have it."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    return found[1].strip() if found else None


def renew_tables(text: str) -> str:
    """A page with its tables as the code has them now."""
    for name, render in TABLES.items():
        if (table := find_table(name, text)) is not None:
            text = text.replace(f"<!-- {name} -->\n{table}", f"<!-- {name} -->\n{render().strip()}")
    return text
