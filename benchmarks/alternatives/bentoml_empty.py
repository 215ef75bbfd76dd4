"""A BentoML service that does nothing: what the shell alone takes to start and to keep."""

import bentoml


@bentoml.service(workers=1)
class Empty:
    """One call, never made."""

    @bentoml.api
    def nothing(self) -> str:
        """Nothing."""
        return ""
