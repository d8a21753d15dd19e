"""``edgepeft serve``: a bundle behind an OpenAI-compatible endpoint on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from edgepeft.runtime import BatchRuntime, Bundle, Runtime
    from edgepeft.serving.endpoint import Endpoint


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
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the key that clients have to send; default: the environment's EDGEPEFT_API_KEY, "
            "without which none is asked for.",
            show_default=False,
        ),
    ] = None,
    threads: ThreadsOption = None,
    provider: ProviderOption = None,
    check: CheckOption = True,
    free: FreeOption = False,
    relevant: Annotated[
        str | None,
        typer.Option(
            help="Of a classifier of two texts: the label whose probability is a document's relevance; it then "
            "ranks.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve a bundle: answers, streamed or not, with its adapters as models; an encoder's vectors or rankings.

    Adapters that are added meanwhile are served from then on. Ctrl-C lets answers under way finish.
    """
    from edgepeft.errors import InputError, MissingError
    from edgepeft.models.tasks import GENERATION

    for module in ("starlette", "uvicorn", "prometheus_client"):
        if importlib.util.find_spec(module) is None:
            raise MissingError(f"{module} is not installed: pip install 'edgepeft[serve]'")
    from edgepeft.runtime import BatchRuntime, Encoder
    from edgepeft.serving.api_key import ApiKey
    from edgepeft.serving.app import make_app
    from edgepeft.serving.encoding import EncoderEndpoint
    from edgepeft.serving.generation import GenerationEndpoint
    from edgepeft.serving.limits import Limits
    from edgepeft.serving.listening import is_loopback, serve

    if batch is not None and concurrent is not None:
        raise InputError("--concurrent: goes with answers made one by one; --batch is the number")
    key = ApiKey.find(api_key_file, os.environ)
    opened = open_bundle(bundle, check=check)
    _refuse_of_other_bundles(
        opened,
        {
            "--batch": batch is not None,
            "--adapter-bytes": adapter_bytes is not None,
            "--free": free,
        },
        {"--relevant": relevant is not None},
    )
    warn(opened.warning)
    if key is None and not is_loopback(host):
        warn(f"--host {host}: whoever reaches it may ask; --api-key-file asks for a key")
    limits = Limits(
        body_bytes=max_body_bytes,
        tokens=max_tokens,
        concurrent=batch or concurrent or 4,
        waiting=waiting,
        header_seconds=min(10.0, request_seconds),
        body_seconds=request_seconds,
        answer_seconds=answer_seconds,
    )
    with contextlib.ExitStack() as held:
        endpoint: Endpoint
        if opened.task == GENERATION:
            runtime = _runtime(opened, threads, provider, adapter_bytes, batch, free)
            if isinstance(runtime, BatchRuntime):
                held.callback(runtime.close)
            endpoint = GenerationEndpoint(runtime, limits)
        else:
            encoder = Encoder(opened, threads=threads, provider=provider)
            endpoint = EncoderEndpoint(encoder, limits, relevant)

        def ready(address: str) -> None:
            typer.echo(address)
            sys.stdout.flush()
            print(f"{opened.base}, {opened.target}, {endpoint.summary()}", file=sys.stderr)

        # The server has finished by the time the signal that ended it is raised again.
        with contextlib.suppress(KeyboardInterrupt):
            serve(
                lambda hosts: make_app(endpoint, hosts=hosts, key=key),
                limits,
                host=host,
                port=port,
                ready=ready,
            )


def _runtime(
    bundle: Bundle,
    threads: int | None,
    provider: str | None,
    adapter_bytes: int | None,
    batch: int | None,
    free: bool,
) -> Runtime | BatchRuntime:
    """What answers with a bundle that generates text, one by one or in batches."""
    from edgepeft.errors import InputError
    from edgepeft.runtime import BatchRuntime, Runtime
    from edgepeft.runtime.devices import CPU
    from edgepeft.runtime.providers import provider_name

    if batch is not None and provider_name(provider or bundle.provider) != CPU:
        raise InputError("--batch: batches run on the CPU alone; add --provider cpu")
    runtime: Runtime | BatchRuntime
    if batch is None:
        runtime = Runtime(bundle, threads=threads, provider=provider, adapter_bytes=adapter_bytes)
    else:
        runtime = BatchRuntime(bundle, rows=batch, threads=threads, adapter_bytes=adapter_bytes)
    if free:
        runtime.grammar = None
    # A schema of the bundle's that nothing here can follow is told now, not to each client.
    if runtime.grammar is not None:
        runtime.matcher(runtime.grammar)
    return runtime


def _refuse_of_other_bundles(
    bundle: Bundle, of_generators: dict[str, bool], of_encoders: dict[str, bool]
) -> None:
    """Raise InputError for an option that bundles of this kind do not have, of those that were given."""
    from edgepeft.errors import InputError
    from edgepeft.models.tasks import GENERATION

    foreign = of_encoders if bundle.task == GENERATION else of_generators
    for name, given in foreign.items():
        if given:
            raise InputError(
                f"{name}: {bundle.path} is for {bundle.task}, which has no such option"
            )
