"""How pytest-xdist shares the tests among its processes."""

from xdist.scheduler import LoadScopeScheduling

ALONE = ("test_every_command_answers_as_shown", "test_an_attack_stays_within_its_bounds")


class Scheduling(LoadScopeScheduling):
    """The tests of a module stay together, except those that share nothing and take long."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if any(name in nodeid for name in ALONE) else super()._split_scope(nodeid)
