"""All attacks, by their names."""

from tests.attacks import pictures
from tests.attacks.attack import Attack

KINDS: tuple[tuple[Attack, ...], ...] = (pictures.ATTACKS,)
ATTACKS = {attack.name: attack for attacks in KINDS for attack in attacks}
