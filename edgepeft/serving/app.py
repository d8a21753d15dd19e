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
from edgepeft.serving.endpoint import ASKED, Endpoint
from edgepeft.serving.origins import OriginCheck
from edgepeft.serving.refusals import RequestError, as_request_error


def make_app(endpoint: Endpoint, *, hosts: Collection[str] | None = None) -> Starlette:
    """The ASGI application for a loaded bundle; ``hosts`` are the names a request may call it by, None any."""
    return Starlette(
        routes=[
            Route("/health", endpoint.health),
            Route("/v1/models", endpoint.models),
            Route("/v1/models/{name}", endpoint.model),
            *(
                Route(path, endpoint.asked.get(path, endpoint.elsewhere), methods=["POST"])
                for path in ASKED
            ),
        ],
        middleware=[Middleware(OriginCheck, hosts=hosts)],
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
