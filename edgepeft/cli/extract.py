"""``edgepeft extract``: a LoRA adapter from a model that was tuned as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepeft.cli.adapter_facts import base_folder, quiet_libraries, show
from edgepeft.cli.options import JsonOption, ProgressMode, ProgressOption


def command(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The model before tuning.")],
    tuned: Annotated[Path, typer.Argument(metavar="TUNED", help="The folder of the tuned model.")],
    rank: Annotated[int, typer.Option("--rank", min=1, max=4096, help="Rank of the adapter.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new adapter.")],
    as_json: JsonOption = False,
    progress: ProgressOption = ProgressMode.auto,
) -> None:
    """Write the difference of two models as a LoRA, and show what it misses.

    Linear layers are taken; what else was tuned (norms, embedding, head, biases) is listed and left out.
    """
    from edgepeft.cli.progress import show_events
    from edgepeft.events import Events

    quiet_libraries()
    from edgepeft.merging.extract import extract_folder

    folder = base_folder(base)
    assert folder is not None
    with show_events(progress) as sink:
        facts = extract_folder(folder, tuned, rank, out, Events("extract", sink))
    if facts["left_out"] and not as_json:
        typer.echo(
            f"left out: {len(facts['left_out'])} tensors that are no linear weights, "
            f"{facts['left_out_share']:.1%} of the change ({facts['left_out'][0]}, ...)",
            err=True,
        )
    show(facts, as_json)
