"""The application: which path goes to which handler, and what becomes of errors."""

from __future__ import annotations

from collections.abc import Collection

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgepeft.errors import EdgepeftError
from edgepeft.serving.api_key import ApiKey, KeyCheck
from edgepeft.serving.endpoint import ASKED, Endpoint
from edgepeft.serving.metrics import METRICS, Counted
from edgepeft.serving.origins import OriginCheck
from edgepeft.serving.refusals import RequestError, as_request_error

HEALTH, MODELS = "/health", "/v1/models"


def make_app(
    endpoint: Endpoint, *, hosts: Collection[str] | None = None, key: ApiKey | None = None
) -> Starlette:
    """The ASGI application for a loaded bundle; ``hosts`` are the names a request may call it by, None any.

    With a ``key`` clients have to know it.
    """
    routes = (*ASKED, MODELS, HEALTH, METRICS)
    return Starlette(
        routes=[
            Route(HEALTH, endpoint.health),
            Route(METRICS, endpoint.metrics.show),
            Route(MODELS, endpoint.models),
            Route(f"{MODELS}/{{name}}", endpoint.model),
            *(
                Route(path, endpoint.asked.get(path, endpoint.elsewhere), methods=["POST"])
                for path in ASKED
            ),
        ],
        middleware=[
            Middleware(Counted, metrics=endpoint.metrics, routes=routes),
            Middleware(OriginCheck, hosts=hosts),
            *([] if key is None else [Middleware(KeyCheck, key=key)]),
        ],
        exception_handlers={
            RequestError: _refused,
            EdgepeftError: _failed,
            HTTPException: _no_such_route,
            ClientDisconnect: _gone,
            Exception: _broken,
        },
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers = {"retry-after": "1"} if error.status in (429, 503) else None
    return JSONResponse(error.body(), error.status, headers)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, EdgepeftError)
    return await _refused(request, as_request_error(error))


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return await _refused(request, RequestError(error.status_code, str(error.detail)))


async def _broken(request: Request, error: Exception) -> Response:
    """What nobody foresaw; uvicorn writes the traceback to standard error."""
    return await _refused(request, RequestError(500, "this server failed on the request"))


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)
