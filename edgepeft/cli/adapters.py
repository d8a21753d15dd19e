"""``edgepeft adapters``: putting customers' adapters into a hot-swap bundle, and taking them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgepeft.cli.help import GroupedCommands, example
from edgepeft.cli.options import JsonOption, MismatchOption, ProgressMode, ProgressOption
from edgepeft.utils.terminal_text import visible_line

if TYPE_CHECKING:
    from edgepeft.runtime.adapters import BundleAdapter

app = typer.Typer(
    cls=GroupedCommands,
    help="Add, remove and list the adapters of a hot-swap bundle. The base is not rebuilt.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
BundleArgument = Annotated[Path, typer.Argument(help="The bundle folder.", show_default=False)]
NameArgument = Annotated[str, typer.Argument(help="The adapter's name.", show_default=False)]


@app.command(epilog=example("edgepeft adapters add runs/mine/bundles/cpu-int4 customer"))
def add(
    bundle: BundleArgument,
    folder: Annotated[
        Path, typer.Argument(metavar="ADAPTER", help="A PEFT adapter folder.", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option(help="Name in the bundle; default: the folder's name.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace an adapter of the same name.")
    ] = False,
    test: Annotated[
        Path | None,
        typer.Option(
            "--test",
            metavar="FILE",
            help="First measure it against its unmerged reference on these rows: a data file, a recipe (with "
            "gates) or a run's folder. An adapter that misses a gate is not added.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Base model it was trained on, for --test; default: the bundle's."
        ),
    ] = None,
    keep_failed: Annotated[
        bool,
        typer.Option(
            "--keep-failed", help="Add it even if it misses a gate; it is marked as failed."
        ),
    ] = False,
    allow_base_mismatch: MismatchOption = False,
    as_json: JsonOption = False,
    progress: ProgressOption = ProgressMode.auto,
) -> None:
    """Add a PEFT adapter (plain LoRA) to a bundle; no other file of the bundle is changed.

    Its fidelity on this base is measured with --test, or by a build whose recipe lists it.
    """
    from edgepeft.adapters.overview import tokenizer_notes
    from edgepeft.cli.adapter_facts import adapter_folder
    from edgepeft.errors import GateError, InputError
    from edgepeft.hot_swap.store import add_adapter, refuse_taken
    from edgepeft.runtime.bundle import Bundle

    if test is None and (model is not None or keep_failed):
        raise InputError("--model and --keep-failed: need --test")
    opened = Bundle.open(bundle, check="sizes")
    name = name or folder.resolve().name
    folder = adapter_folder(folder)
    for note in tokenizer_notes(folder, bundle):
        typer.echo(note, err=True)
    refuse_taken(opened, name, replace=replace)

    def put() -> BundleAdapter:
        return add_adapter(
            opened, name, folder, replace=replace, allow_base_mismatch=allow_base_mismatch
        )

    if test is None:
        made = put()
        _show_added(_facts(made), f"{made.name}  {_described(made)}; not measured here", as_json)
        return
    from edgepeft.cli.progress import show_events
    from edgepeft.config.test_sets import GivenTests
    from edgepeft.evaluation.card import cost_line
    from edgepeft.evaluation.seal import seal_adapter
    from edgepeft.hot_swap.measured import base_of, try_adapter
    from edgepeft.runtime.adapters import open_adapter
    from edgepeft.utils.whole_files import scratch_folder

    given = GivenTests.read(test)
    base = base_of(opened, model)
    with scratch_folder() as scratch:
        with show_events(progress) as sink:
            trial = try_adapter(
                opened,
                name,
                folder,
                given,
                base,
                scratch,
                allow_base_mismatch=allow_base_mismatch,
                sink=sink,
            )
        facts = {"added": not trial.missed or keep_failed, **trial.entry}
        if facts["added"]:
            facts["path"] = str(put().path)
            seal_adapter(Path(facts["path"]), trial.measures, given.gates)
            facts = {**_facts(open_adapter(opened, name)), **facts}
        else:
            facts["path"] = None
        _show_added(facts, cost_line(trial.entry), as_json)
    if trial.missed:
        ending = "added, marked as failed" if facts["added"] else "not added; --keep-failed adds it"
        raise GateError(f"{name}: missed {'; '.join(trial.missed)} ({ending})")


def _show_added(facts: dict[str, Any], line: str, as_json: bool) -> None:
    typer.echo(json.dumps(facts, indent=2) if as_json else visible_line(line))


@app.command(epilog=example("edgepeft adapters remove runs/mine/bundles/cpu-int4 customer"))
def remove(bundle: BundleArgument, name: NameArgument) -> None:
    """Remove an adapter from a bundle. An adapter in use is not removed."""
    from edgepeft.hot_swap.store import remove_adapter
    from edgepeft.runtime.bundle import Bundle

    remove_adapter(Bundle.open(bundle, check="sizes"), name)


@app.command("list", epilog=example("edgepeft adapters list runs/mine/bundles/cpu-int4"))
def list_adapters(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """List the adapters of a bundle: rank, what each was trained on, and its gates."""
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
    trained_on = str(facts.get("trained_on"))
    base = f"trained on {trained_on}, served on {facts.get('served_on')}"
    if facts.get("same_base"):
        assumed = trained_on != facts.get("served_on") and trained_on.startswith("assumed")
        base = f"its own base, {trained_on}" if assumed else "its own base"
    return f"rank {facts.get('rank')}, {adapter.bytes / 1e6:.1f} MB, {base}"


def _verdict(adapter: BundleAdapter) -> str:
    if adapter.gates is None:
        return "not measured"
    return "MISSED" if adapter.gates else "passed"
