"""``edgepeft serve``: a bundle behind an OpenAI-compatible endpoint on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from typing import Annotated

import typer

from edgepeft.cli.bundles import (
    BundleArgument,
    CheckOption,
    ProviderOption,
    ThreadsOption,
    open_bundle,
    warn,
)
from edgepeft.cli.grammar_options import FreeOption


def command(
    bundle: BundleArgument,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; others than loopback are open to the network."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    max_tokens: Annotated[
        int, typer.Option(help="Maximum number of tokens of an answer.", min=1)
    ] = 1024,
    max_body_bytes: Annotated[int, typer.Option(help="Longest request.", min=1)] = 1 << 20,
    concurrent: Annotated[
        int | None,
        typer.Option(
            help="Answers under way at once, each by itself; default: 4.", min=1, show_default=False
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            help="Make up to this many answers together, on the CPU: requests join a running batch, whatever "
            "their adapters; batched answers are bit-identical to unbatched ones.",
            min=2,
            show_default=False,
        ),
    ] = None,
    waiting: Annotated[
        int, typer.Option(help="Requests that may wait for their turn; more get 429.", min=0)
    ] = 64,
    request_seconds: Annotated[
        float, typer.Option(help="Time that a client has to send a request, in seconds.", min=0.1)
    ] = 30.0,
    answer_seconds: Annotated[
        float, typer.Option(help="Time for an answer, waiting included, in seconds.", min=0.01)
    ] = 600.0,
    adapter_bytes: Annotated[
        int | None,
        typer.Option(
            help="Memory for adapters, in bytes; the least recently used are evicted.",
            show_default=False,
        ),
    ] = None,
    threads: ThreadsOption = None,
    provider: ProviderOption = None,
    check: CheckOption = True,
    free: FreeOption = False,
) -> None:
    """Serve a bundle: chat completions, streamed or not; its adapters are the models.

    Adapters that are added meanwhile are served from then on. Ctrl-C lets answers under way finish.
    """
    from edgepeft.errors import InputError, MissingError
    from edgepeft.runtime import BatchRuntime, Runtime

    for module in ("starlette", "uvicorn"):
        if importlib.util.find_spec(module) is None:
            raise MissingError(f"{module} is not installed: pip install 'edgepeft[serve]'")
    from edgepeft.runtime.devices import CPU
    from edgepeft.runtime.providers import provider_name
    from edgepeft.serving.app import make_app
    from edgepeft.serving.generation import GenerationEndpoint
    from edgepeft.serving.limits import Limits
    from edgepeft.serving.listening import serve

    if batch is not None and concurrent is not None:
        raise InputError("--concurrent: goes with answers made one by one; --batch is the number")
    opened = open_bundle(bundle, check=check)
    if batch is not None and provider_name(provider or opened.provider) != CPU:
        raise InputError("--batch: batches run on the CPU alone; add --provider cpu")
    warn(opened.warning)
    runtime: Runtime | BatchRuntime
    if batch is None:
        runtime = Runtime(opened, threads=threads, provider=provider, adapter_bytes=adapter_bytes)
    else:
        runtime = BatchRuntime(opened, rows=batch, threads=threads, adapter_bytes=adapter_bytes)
    if free:
        runtime.grammar = None
    # A schema of the bundle's that nothing here can follow is told now, not to each client.
    if runtime.grammar is not None:
        runtime.matcher(runtime.grammar)
    limits = Limits(
        body_bytes=max_body_bytes,
        tokens=max_tokens,
        concurrent=batch or concurrent or 4,
        waiting=waiting,
        header_seconds=min(10.0, request_seconds),
        body_seconds=request_seconds,
        answer_seconds=answer_seconds,
    )

    def ready(address: str) -> None:
        typer.echo(address)
        names = runtime.adapters
        sys.stdout.flush()
        print(f"{opened.base}, {opened.target}, {len(names)} adapters", file=sys.stderr)

    # The server has finished by the time the signal that ended it is raised again.
    try:
        with contextlib.suppress(KeyboardInterrupt):
            endpoint = GenerationEndpoint(runtime, limits)
            serve(
                lambda hosts: make_app(endpoint, hosts=hosts),
                limits,
                host=host,
                port=port,
                ready=ready,
            )
    finally:
        if isinstance(runtime, BatchRuntime):
            runtime.close()
