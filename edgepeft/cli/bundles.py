"""What the commands that ask a bundle share: their options, opening it, and saying what is to be said of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepeft.utils.terminal_text import visible_line

if TYPE_CHECKING:
    from edgepeft.runtime.bundle import Bundle

BundleArgument = Annotated[
    Path,
    typer.Argument(help="The bundle folder, or that of a run with one.", show_default=False),
]
SwappedOption = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        help="Adapter of a hot-swap bundle to use; base (the default): none.",
        show_default=False,
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", help="CPU threads; default: one for each core there is."),
]
ProviderOption = Annotated[
    str | None,
    typer.Option(
        "--provider", help="Run on another provider than the bundle was built for, as cpu."
    ),
]
CheckOption = Annotated[
    bool, typer.Option("--check/--no-check", help="Compare every file's SHA-256 first.")
]


def open_bundle(path: Path, *, check: bool) -> Bundle:
    """The bundle that a folder stands for; ``check`` compares hashes, else sizes. Raises InputError."""
    from edgepeft.cli.meant import bundle_folder
    from edgepeft.runtime import Bundle

    return Bundle.open(bundle_folder(path), check="hashes" if check else "sizes")


def warn(warning: str | None) -> None:
    """Say what a bundle or an adapter that was opened is to be taken with, if there is anything."""
    if warning:
        print(f"warning: {visible_line(warning)}", file=sys.stderr)
