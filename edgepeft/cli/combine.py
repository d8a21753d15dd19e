"""``edgepeft combine``: several adapters into one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from edgepeft.cli.adapter_facts import adapter_folder, base_folder, quiet_libraries, show
from edgepeft.cli.options import JsonOption, MismatchOption, ProgressMode, ProgressOption
from edgepeft.cli.streams import say


def command(
    adapters: Annotated[list[Path], typer.Argument(metavar="ADAPTER...", help="Adapter folders.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new adapter.")],
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="linear, cat, svd, ties, dare_linear, dare_ties, magnitude_prune; the last four also with _svd; "
            "or regmean, which is fitted to rows of --test. Default: svd; with --search the fast ones.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="One weight per adapter, as 0.6,0.4; a negative weight subtracts; default: 1 for each.",
        ),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option("--density", help="Share of values that ties, dare and prune keep."),
    ] = None,
    rank: Annotated[
        int | None, typer.Option("--rank", help="Rank of the result, for svd methods.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed for the values that dare drops.")] = 0,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Base model; needed for adapters other than LoRA and for --test."
        ),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(
            "--test",
            metavar="NAME=FILE",
            help="Test rows of an adapter, named by its folder: a data file, a recipe or a run's folder. Give "
            "one per adapter; the exact match of every task is shown before and after.",
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", help="Most test rows per adapter that the report uses.", min=1)
    ] = 64,
    search: Annotated[
        bool,
        typer.Option(
            "--search", help="Search for the method and weights that keep the most of every task."
        ),
    ] = False,
    trials: Annotated[
        int, typer.Option("--trials", help="Combinations that the search tries.", min=2)
    ] = 16,
    search_rows: Annotated[
        int,
        typer.Option(
            "--search-rows",
            help="Test rows per adapter for the search and for regmean, at most half; the report does not use "
            "them.",
            min=1,
        ),
    ] = 24,
    allow_base_mismatch: MismatchOption = False,
    as_json: JsonOption = False,
    progress: ProgressOption = ProgressMode.auto,
) -> None:
    """Combine adapters of one base model into a new LoRA adapter, by PEFT's methods or by least squares.

    Ranks may differ. Adapters of other methods than LoRA are converted first, and the loss is shown.
    """
    from edgepeft.combination.methods import (
        REGMEAN,
        Combination,
        check_combination,
        read_weights,
    )
    from edgepeft.errors import InputError

    how = Combination(method or "svd", read_weights(weights, len(adapters)), density, rank, seed)
    if method is not None or not search:
        with in_words_of_options():
            check_combination(how, len(adapters), rows=bool(test))
    if search and not test:
        raise InputError(
            "--search: needs test rows of every adapter; give --test NAME=FILE for each"
        )
    if test and model is None:
        raise InputError("--test: needs the base model; give --model")

    quiet_libraries()
    folders = [adapter_folder(adapter) for adapter in adapters]
    if not test:
        from edgepeft.combination.folders import combine_folders

        facts = combine_folders(
            folders, how, out, model=base_folder(model), allow_base_mismatch=allow_base_mismatch
        )
    else:
        from edgepeft.cli.progress import show_events
        from edgepeft.combination.evaluate import Measuring, combine_measured, names_of
        from edgepeft.combination.scoring import read_tests
        from edgepeft.events import Events

        tests = read_tests(test, names_of(adapters))
        measuring = Measuring(tests, rows, searched=search_rows if method == REGMEAN else 0)
        if search:
            methods = [method] if method is not None else []
            measuring = Measuring(tests, rows, trials, search_rows, methods)
        base = base_folder(model)
        assert base is not None
        with show_events(progress) as sink:
            facts = combine_measured(
                folders,
                how,
                out,
                base,
                measuring,
                allow_base_mismatch=allow_base_mismatch,
                events=Events("combine", sink),
            )
    for part in facts["of"]:
        if part["lost_in_conversion"]:
            say(
                f"{part['path']}: conversion to LoRA of rank {part['rank']} loses "
                f"{part['lost_in_conversion']:.1%} of its change",
                err=True,
            )
    show(facts, as_json)
    if test and not as_json:
        _show_scores(facts)


_OPTIONS = {
    "combine.method": "--method",
    "adapter.weight": "--weights",
    "combine.density": "--density",
    "combine.rank": "--rank",
}
"""The options of this command by the recipe's keys for the same."""


@contextlib.contextmanager
def in_words_of_options() -> Iterator[None]:
    """Have mistakes that name a recipe's key name the option."""
    from edgepeft.errors import InputError

    try:
        yield
    except InputError as error:
        key, colon, said = str(error).partition(":")
        if key not in _OPTIONS:
            raise
        raise InputError(f"{_OPTIONS[key]}{colon}{said}") from None


def _show_scores(facts: Mapping[str, Any]) -> None:
    """Each task's exact match with its own adapter and with the combined one, and what was searched."""
    from edgepeft.cli.tables import print_table

    rows = []
    for name, task in facts["tasks"].items():
        alone, combined, kept = task["alone"], task["combined"], task["kept"]
        low, high = combined["interval"]
        cells = [name, str(alone["rows"]), f"{alone['exact_match']:.3f}"]
        cells += [f"{combined['exact_match']:.3f}", f"{low:.2f} to {high:.2f}"]
        rows.append([*cells, "–" if kept is None else f"{kept:.1%}"])
    print_table(["task", "rows", "alone", "combined", "95 % interval", "kept"], rows)
    if "search" in facts:
        counts = ", ".join(f"{count} of {name}" for name, count in facts["search"]["rows"].items())
        say(
            f"best of {len(facts['search']['trials'])} combinations, chosen on other test rows ({counts}) than "
            "those above"
        )
