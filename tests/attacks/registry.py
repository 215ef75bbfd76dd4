"""All attacks, by their names."""

from tests.attacks import wire
from tests.attacks.attack import Attack

KINDS: tuple[tuple[Attack, ...], ...] = (wire.ATTACKS,)
ATTACKS = {attack.name: attack for attacks in KINDS for attack in attacks}
