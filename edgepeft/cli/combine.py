"""``edgepeft combine``: several adapters into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepeft.cli.adapter_facts import base_folder, quiet_libraries, show
from edgepeft.cli.options import JsonOption, MismatchOption


def command(
    adapters: Annotated[list[Path], typer.Argument(metavar="ADAPTER...", help="Adapter folders.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new adapter.")],
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="linear, cat, svd, ties, dare_linear, dare_ties, magnitude_prune; the last four also with _svd.",
        ),
    ] = "svd",
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="One number an adapter, as 0.6,0.4; negative takes away; default: all 1.",
        ),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option("--density", help="Share of values that ties, dare and prune keep."),
    ] = None,
    rank: Annotated[
        int | None, typer.Option("--rank", help="Rank of the result, for svd methods.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of what dare drops.")] = 0,
    model: Annotated[
        str | None, typer.Option("--model", help="The base, which adapters other than LoRA need.")
    ] = None,
    allow_base_mismatch: MismatchOption = False,
    as_json: JsonOption = False,
) -> None:
    """Combine adapters of one base into a new LoRA adapter, by PEFT's own methods.

    Ranks may differ, and other methods than LoRA are converted first; what that loses is shown.
    """
    from edgepeft.merging.combinations import Combination, check_combination, read_weights

    how = Combination(method, read_weights(weights, len(adapters)), density, rank, seed)
    check_combination(how, len(adapters))

    quiet_libraries()
    from edgepeft.merging.adapter_files import combine_folders

    facts = combine_folders(
        adapters, how, out, model=base_folder(model), allow_base_mismatch=allow_base_mismatch
    )
    for part in facts["of"]:
        if part["lost_in_conversion"]:
            typer.echo(
                f"{part['path']}: {part['lost_in_conversion']:.1%} of its change is lost as LoRA of rank "
                f"{part['rank']}",
                err=True,
            )
    show(facts, as_json)
