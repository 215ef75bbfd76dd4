"""The calls about the service itself: alive, ready, models, metrics."""

from service.api.endpoints import answer_json
from service.api.prometheus import render_metrics, set_gauges
from service.errors import BadRequest
from service.http.request import Request, Response
from service.inference.admission import Admission
from service.lifecycle import Lifecycle
from service.repository.repository import Repository


class StatusEndpoints:
    """Each call is a function of a request."""

    def __init__(self, repository: Repository, lifecycle: Lifecycle, admission: Admission) -> None:
        self._repository = repository
        self._lifecycle = lifecycle
        self._admission = admission

    def reasons_not_ready(self) -> list[str]:
        """Why requests should go elsewhere; empty when they should come."""
        reasons = ["This server is draining."] if self._lifecycle.draining else []
        return reasons + self._repository.reasons_not_ready()

    async def livez(self, _: Request) -> Response:
        """`GET /livez`: the process answers."""
        return answer_json({"alive": True})

    async def readyz(self, _: Request) -> Response:
        """`GET /readyz`: whether requests should be sent here, and why not."""
        reasons = self.reasons_not_ready()
        told = {
            "ready": not reasons,
            "reasons": reasons,
            "provider": self._repository.provider(),
        }
        return answer_json(told, 503 if reasons else 200)

    async def models(self, _: Request) -> Response:
        """`GET /models`: all that is in the tree."""
        names = self._repository.names()
        return answer_json({"models": [self._repository.describe(name) for name in names]})

    async def model(self, _: Request, name: str) -> Response:
        """`GET /models/<name>`: one of them."""
        return answer_json(self._repository.describe(name))

    async def attention(self, request: Request, name: str) -> Response:
        """`GET /models/<name>/attention`: where it looks, beside where it looked at the export."""
        given = request.query
        if any(parameter != "version" for parameter, _ in given) or len(given) > 1:
            raise BadRequest("The only parameter here is 'version': give it once, or leave it out.")
        model = self._repository.find("/".join([name, *(version for _, version in given)]))
        return answer_json(model.attention.describe(model.name, model.version))

    async def metrics(self, _: Request) -> Response:
        """`GET /metrics`: for Prometheus."""
        set_gauges(self._admission)
        page, media_type = render_metrics(self._repository)
        return Response(page, media_type)
