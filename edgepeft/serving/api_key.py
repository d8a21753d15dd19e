"""Who knows the key may ask: one secret for all clients, sent as OpenAI's clients send theirs.

``/health`` needs none, for what watches over a server has no business with its models and it tells nothing;
``/metrics`` needs it as everything else does.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from edgepeft.errors import InputError
from edgepeft.serving.refusals import RequestError

VARIABLE = "EDGEPEFT_API_KEY"
OPEN = ("/health",)
"""Paths that need no key."""
_MOST_BYTES = 4096


class ApiKey:
    """A secret, kept as its SHA-256 alone, so that nothing that shows this object shows it."""

    def __init__(self, secret: str, where: str) -> None:
        """``where`` it comes from stands in errors. Raises InputError for what no client could send."""
        if not secret:
            raise InputError(f"{where}: is empty; write the key there, or leave it out")
        if not (secret.isascii() and secret.isprintable()) or " " in secret:
            raise InputError(f"{where}: a key is one line of printable ASCII characters, no spaces")
        self._digest = hashlib.sha256(secret.encode()).digest()

    @classmethod
    def find(cls, file: Path | None, environment: Mapping[str, str]) -> ApiKey | None:
        """The key in ``file``, or where none is given in the environment; None for no key. Raises InputError."""
        if file is None:
            return cls(environment[VARIABLE], VARIABLE) if VARIABLE in environment else None
        where = f"--api-key-file {file}"
        try:
            with file.open("rb") as stream:
                data = stream.read(_MOST_BYTES + 1)
        except OSError as error:
            raise InputError(f"{where}: cannot be read ({error.strerror})") from None
        if len(data) > _MOST_BYTES:
            raise InputError(f"{where}: is longer than {_MOST_BYTES} bytes; a key is one line")
        return cls(data.decode("latin-1").strip(), where)

    def opens(self, sent: str) -> bool:
        """Whether it is what was sent, in a time that says nothing of where they differ."""
        digest = hashlib.sha256(sent.encode("latin-1", "replace")).digest()
        return hmac.compare_digest(digest, self._digest)


class KeyCheck:
    """ASGI middleware that answers who does not know the key."""

    def __init__(self, app: ASGIApp, key: ApiKey) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or say why not."""
        if scope["type"] == "http" and scope["path"] not in OPEN:
            refusal = self._refusal(Headers(scope=scope))
            if refusal is not None:
                response = JSONResponse(
                    refusal.body(), refusal.status, {"www-authenticate": "Bearer"}
                )
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> RequestError | None:
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not sent:
            return RequestError(
                401,
                "this server asks for an API key (Authorization: Bearer KEY)",
                code="invalid_api_key",
            )
        if not self._key.opens(sent.strip()):
            return RequestError(401, "the API key is not this server's", code="invalid_api_key")
        return None
