"""All attacks, by their names."""

from tests.attacks.attack import Attack

ATTACKS: dict[str, Attack] = {attack.name: attack for attack in ()}
