"""All attacks, by their names."""

from tests.attacks import bodies, grpc, pictures, repository, wire
from tests.attacks.attack import Attack

KINDS: tuple[tuple[Attack, ...], ...] = (
    bodies.ATTACKS,
    grpc.ATTACKS,
    pictures.ATTACKS,
    repository.ATTACKS,
    wire.ATTACKS,
)
ATTACKS = {attack.name: attack for attacks in KINDS for attack in attacks}
