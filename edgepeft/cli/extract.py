"""``edgepeft extract``: a LoRA adapter from a model that was tuned as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepeft.cli.adapter_facts import base_folder, quiet_libraries, show
from edgepeft.cli.options import JsonOption, ProgressMode, ProgressOption
from edgepeft.cli.streams import say


def command(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The base model.")],
    tuned: Annotated[Path, typer.Argument(metavar="TUNED", help="Folder of the fine-tuned model.")],
    rank: Annotated[int, typer.Option("--rank", min=1, max=4096, help="Rank of the adapter.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new adapter.")],
    as_json: JsonOption = False,
    progress: ProgressOption = ProgressMode.auto,
) -> None:
    """Write the difference of two models as a LoRA adapter, and show the loss.

    Only linear layers are extracted; other tuned tensors (norms, embedding, head, biases) are listed and left
    out.
    """
    from edgepeft.cli.progress import show_events
    from edgepeft.events import Events

    quiet_libraries()
    from edgepeft.combination.extract import extract_folder

    folder = base_folder(base)
    assert folder is not None
    with show_events(progress) as sink:
        facts = extract_folder(folder, tuned, rank, out, Events("extract", sink))
    if facts["left_out"] and not as_json:
        say(
            f"left out: {len(facts['left_out'])} tensors that are not linear weights, "
            f"{facts['left_out_share']:.1%} of the change ({facts['left_out'][0]}, ...)",
            err=True,
        )
    show(facts, as_json)
