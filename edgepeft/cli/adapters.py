"""``edgepeft adapters``: putting customers' adapters into a hot-swap bundle, and taking them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgepeft.cli.options import JsonOption, MismatchOption

if TYPE_CHECKING:
    from edgepeft.runtime.adapters import BundleAdapter

app = typer.Typer(
    help="Put adapters into a hot-swap bundle, take them out, list them. The base is never built again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
BundleArgument = Annotated[Path, typer.Argument(help="The bundle folder.", show_default=False)]
NameArgument = Annotated[str, typer.Argument(help="The adapter's name.", show_default=False)]


@app.command()
def add(
    bundle: BundleArgument,
    folder: Annotated[
        Path, typer.Argument(metavar="ADAPTER", help="A PEFT adapter folder.", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option(help="Its name in the bundle; default: the folder's.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of one of that name.")
    ] = False,
    allow_base_mismatch: MismatchOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add a PEFT adapter (plain LoRA) to a bundle; no other file of the bundle is touched.

    What the adapter keeps of its training on this base is measured by a build whose recipe lists it.
    """
    from edgepeft.hot_swap.store import add_adapter
    from edgepeft.runtime.bundle import Bundle

    opened = Bundle.open(bundle, check="sizes")
    made = add_adapter(
        opened,
        name or folder.resolve().name,
        folder,
        replace=replace,
        allow_base_mismatch=allow_base_mismatch,
    )
    if as_json:
        typer.echo(json.dumps(_facts(made), indent=2))
    else:
        typer.echo(f"{made.name}  {_described(made)}")


@app.command()
def remove(bundle: BundleArgument, name: NameArgument) -> None:
    """Take an adapter out of a bundle; one that is in use is left alone."""
    from edgepeft.hot_swap.store import remove_adapter
    from edgepeft.runtime.bundle import Bundle

    remove_adapter(Bundle.open(bundle, check="sizes"), name)


@app.command("list")
def list_adapters(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """List a bundle's adapters: rank, what each was trained on, and what was measured."""
    from edgepeft.cli.tables import print_table
    from edgepeft.runtime.adapters import adapter_names, open_adapter
    from edgepeft.runtime.bundle import Bundle
    from edgepeft.runtime.slots import refuse_merged

    opened = Bundle.open(bundle, check="sizes")
    refuse_merged(opened)
    found = [open_adapter(opened, name) for name in adapter_names(opened)]
    if as_json:
        typer.echo(json.dumps([_facts(adapter) for adapter in found], indent=2))
        return
    print_table(
        ["adapter", "rank", "trained on", "MB", "gates"],
        [
            [
                adapter.name,
                str(adapter.facts.get("rank")),
                str(adapter.facts.get("trained_on")),
                f"{adapter.bytes / 1e6:.1f}",
                _verdict(adapter),
            ]
            for adapter in found
        ],
    )


def _facts(adapter: BundleAdapter) -> dict[str, Any]:
    gates = adapter.gates
    return {
        "name": adapter.name,
        "path": str(adapter.path),
        "bytes": adapter.bytes,
        "gates": None if gates is None else list(gates) or "passed",
        **{key: value for key, value in adapter.facts.items() if key != "adapter"},
    }


def _described(adapter: BundleAdapter) -> str:
    facts = adapter.facts
    base = (
        "its own base"
        if facts.get("same_base")
        else f"trained on {facts.get('trained_on')}, served on {facts.get('served_on')}"
    )
    return f"rank {facts.get('rank')}, {adapter.bytes / 1e6:.1f} MB, {base}; not measured here"


def _verdict(adapter: BundleAdapter) -> str:
    if adapter.gates is None:
        return "not measured"
    return "MISSED" if adapter.gates else "passed"
