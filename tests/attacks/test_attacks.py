"""Every attack in a short form. `make reliability` runs them at full size."""

from pathlib import Path

import pytest

from tests.attacks.attack import Attack
from tests.attacks.registry import ATTACKS
from tests.attacks.run import SHORT, run_attack


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_stays_within_its_bounds(attack: Attack, tmp_path: Path) -> None:
    observed, missed = run_attack(attack, tmp_path, SHORT)
    assert not missed, observed.describe()
