"""Who may ask: no page of another site, no name that was pointed at this machine, and only in JSON that says so.

A browser sends a form or text/plain to any address without asking first, so a page anywhere could make a server
on the reader's own machine compute. It always says where the page came from, and can't say ``application/json``
without a preflight, which is answered like any other method that no route has.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from email.message import Message
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from edgepeft.serving.refusals import RequestError

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")


class OriginCheck:
    """ASGI middleware that answers what may not pass."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        """``hosts`` are the names that a request may call the server by; None for any."""
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or say why not."""
        if scope["type"] == "http":
            refusal = self._refusal(Headers(scope=scope), scope["method"])
            if refusal is not None:
                response = JSONResponse(refusal.body(), refusal.status)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers, method: str) -> RequestError | None:
        name = _host_of(headers.get("host", ""))
        if self._hosts is not None and name not in self._hosts:
            return RequestError(400, f"this server does not answer to the host {name[:80]!r}")
        origin = headers.get("origin")
        if origin is not None and not self._same_site(origin, headers.get("host", ""), name):
            return RequestError(
                403, f"pages of {origin[:80]!r} may not ask this server", code="origin_not_allowed"
            )
        if (
            headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
            and method == "POST"
        ):
            return RequestError(
                403, "pages of other sites may not ask this server", code="origin_not_allowed"
            )
        return _form_refusal(headers) if method == "POST" else None

    def _same_site(self, origin: str, host: str, name: str) -> bool:
        """Whether a page came from this very server, under a name that only it can have."""
        try:
            place = urlsplit(origin)
        except ValueError:
            return False
        if place.scheme not in ("http", "https") or place.netloc.lower() != host.lower():
            return False
        return self._hosts is not None or _is_address(name) or name in _own_names()


def _form_refusal(headers: Headers) -> RequestError | None:
    """What is wrong with how a body is sent."""
    kind = Message()
    kind["content-type"] = headers.get("content-type", "")
    charset = str(kind.get_param("charset", "utf-8")).lower()
    if kind.get_content_type() != "application/json" or charset not in ("utf-8", "utf8"):
        return RequestError(415, "Content-Type must be application/json, in UTF-8")
    if headers.get("content-encoding", "identity").lower() != "identity":
        return RequestError(415, "Content-Encoding must be identity: bodies are read as they come")
    return None


def _host_of(header: str) -> str:
    """The name in a Host header, without port and brackets, in lower case."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _own_names() -> Collection[str]:
    return ("localhost", socket.gethostname().lower())
