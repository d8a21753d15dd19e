"""``edgepeft compress``: an adapter at a lower rank."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepeft.cli.adapter_facts import adapter_folder, base_folder, quiet_libraries, show
from edgepeft.cli.options import JsonOption


def command(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="An adapter folder.")],
    rank: Annotated[int, typer.Option("--rank", min=1, max=4096, help="Rank of the result.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new adapter.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Base model; needed for adapters other than LoRA.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Reduce the rank of an adapter by truncated SVD, and show the loss.

    The error is the share of the adapter's weight change (Frobenius norm) that is lost.
    """
    quiet_libraries()
    from edgepeft.combination.folders import compress_folder

    found = adapter_folder(adapter)
    show(compress_folder(found, rank, out, model=base_folder(model)), as_json)
