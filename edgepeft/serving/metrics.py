"""What a server counts, for Prometheus to read at ``/metrics``.

Names and units follow https://prometheus.io/docs/practices/naming. Nothing that a client sends is a label.
"""

from __future__ import annotations

from collections.abc import Collection

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METRICS = "/metrics"
_OTHER = "other"
_FIRST_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The counts of one server, beside those of any other in the process."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "edgepeft_requests",
            "Requests by route and status",
            ["route", "status"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "edgepeft_requests_in_flight", "Requests that are not answered yet", registry=registry
        )
        self.read = Counter(
            "edgepeft_prompt_tokens", "Tokens of the prompts and texts read", registry=registry
        )
        self.written = Counter(
            "edgepeft_generated_tokens", "Tokens of the answers given", registry=registry
        )
        self.first_token = Histogram(
            "edgepeft_time_to_first_token_seconds",
            "Time from a request to the first token of its answer, waiting included",
            buckets=_FIRST_TOKEN_SECONDS,
            registry=registry,
        )

    async def show(self, request: Request) -> Response:
        """``GET /metrics``."""
        return Response(
            generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST}
        )


class Counted:
    """ASGI middleware that counts requests; ``routes`` are the paths that are counted by their names."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Collection[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it when its answer has ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # What is raised here is answered further out.
        status = 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with self._metrics.in_flight.track_inprogress():
                await self._app(scope, receive, sent)
        finally:
            route = self._route(scope["path"])
            self._metrics.requests.labels(route, str(status)).inc()

    def _route(self, path: str) -> str:
        """The route of a path; a name in it is left out, so that clients can't make up series."""
        found = [route for route in self._routes if path == route or path.startswith(f"{route}/")]
        return found[0] if found else _OTHER
