"""A BentoML service that does nothing, to measure the start and memory of BentoML alone."""

import bentoml


@bentoml.service(workers=1)
class Empty:
    """A service with one call that nobody makes."""

    @bentoml.api
    def nothing(self) -> str:
        """Do nothing."""
        return ""
