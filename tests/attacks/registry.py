"""All attacks, by their names."""

from tests.attacks.attack import Attack

KINDS: tuple[tuple[Attack, ...], ...] = ()
ATTACKS = {attack.name: attack for attacks in KINDS for attack in attacks}
