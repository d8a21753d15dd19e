"""What is said of a request that is not answered, as OpenAI's clients read it."""

from __future__ import annotations

import json
import sys
from typing import Any

from edgepeft.bundle.files import DamagedError
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.runtime.sampling_params import OutOfRange


class RequestError(Exception):
    """What is wrong with a request, as OpenAI's clients read it."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    def body(self) -> dict[str, Any]:
        """The JSON of the response; what came from the client in it can't drive a terminal."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": _visible(str(self)),
                "type": kind,
                "param": None if self.param is None else _visible(self.param),
                "code": self.code,
            }
        }


def _visible(text: str) -> str:
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def refuse(found: tuple[str, str] | None, where: str = "") -> None:
    """Raise RequestError (400) where there is an objection."""
    if found is not None:
        name, said = found
        # A name is a stranger's text of any length.
        param = f"{where}.{name[:80]}" if where else name[:80]
        raise RequestError(400, f"{param}: {said}", code="unsupported_parameter", param=param)


def as_request_error(error: EdgepeftError | RequestError) -> RequestError:
    """The runtime's complaint as a response: the request's fault, or this server's."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, DamagedError):
        # The client can't mend it; whoever serves is told where to look.
        print(f"edgepeft: {error}", file=sys.stderr, flush=True)
        return RequestError(
            500, "a file of this model has been changed or is missing", code="damaged"
        )
    param = error.name if isinstance(error, OutOfRange) else None
    return RequestError(400 if isinstance(error, InputError) else 503, str(error), param=param)
