"""All attacks, by their names."""

from tests.attacks import repository
from tests.attacks.attack import Attack

KINDS: tuple[tuple[Attack, ...], ...] = (repository.ATTACKS,)
ATTACKS = {attack.name: attack for attacks in KINDS for attack in attacks}
