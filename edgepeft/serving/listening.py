"""The server's process: it listens on an address until it is told to stop."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection
from dataclasses import replace

import uvicorn
from starlette.types import ASGIApp

from edgepeft.errors import EdgepeftError, InputError, one_line
from edgepeft.serving.connections import connections_within
from edgepeft.serving.limits import Limits
from edgepeft.serving.origins import LOOPBACK_NAMES

Ready = Callable[[str], None]
MakeApp = Callable[[Collection[str] | None], ASGIApp]
"""Makes the application for the names that a request may call it by, None for any."""


def serve(make_app: MakeApp, limits: Limits, *, host: str, port: int, ready: Ready) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is under way; ``ready`` is told the address.

    Port 0 takes one that is free. Raises EdgepeftError where the address can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise EdgepeftError(f"{host}:{port}: {error.strerror}; choose another --port") from None
    except (
        TypeError,
        ValueError,
    ) as error:  # a name that is none, which Python's own encoder of names finds
        listener.close()
        raise InputError(f"--host {host[:80]!r}: not an address ({one_line(error)})") from None
    config = uvicorn.Config(
        make_app((*LOOPBACK_NAMES, host) if is_loopback(host) else None),
        http=connections_within(_within_open_files(limits)),
        # Whatever else is installed: the protocol above is made for this loop, and there are no websockets.
        loop="asyncio",
        ws="none",
        # The address of a client is its own, not what a header says.
        proxy_headers=False,
        log_level="error",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=30,
    )
    # Whoever is told the address may connect at once.
    listener.listen(config.backlog)
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{listener.getsockname()[1]}/v1")
    uvicorn.Server(config).run(sockets=[listener])


def _within_open_files(limits: Limits) -> Limits:
    """No more connections than this process may open files for, beside those of the model."""
    try:
        import resource
    except ImportError:  # Windows has no such bound
        return limits
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = max(16, most - 128) if most != resource.RLIM_INFINITY else limits.connections
    return replace(
        limits,
        connections=min(limits.connections, room),
        per_client=min(limits.per_client, max(8, room // 2)),
    )


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, which no other reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
