"""The README's table of settings is the code's.

Write it anew with `python -m tests.test_settings_table`.
"""

import re

from service.settings import Settings, render_settings
from tests.server import ROOT

README = ROOT / "README.md"
TABLE = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", re.DOTALL)


def read_table() -> str:
    """What stands between the markers."""
    found = TABLE.search(README.read_text())
    assert found, "README.md has no table between <!-- settings --> and <!-- /settings -->"
    return found[0].strip()


def test_the_readme_lists_every_setting_with_its_default_and_meaning() -> None:
    assert render_settings() == read_table()


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())


if __name__ == "__main__":
    README.write_text(TABLE.sub(lambda _: render_settings() + "\n", README.read_text()))
