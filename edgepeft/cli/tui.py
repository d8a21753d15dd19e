"""``edgepeft tui``: the terminal wizard, which is a package of its own and found by its entry point."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from edgepeft.errors import MissingError


def command(
    recipe: Annotated[
        Path | None,
        typer.Argument(
            metavar="RECIPE", help="A recipe to open in the wizard.", show_default=False
        ),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show it in a browser on this machine instead.")
    ] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port for --serve.")] = 8000,
) -> None:
    """Choose a model, data, a method and a device in the terminal, and watch it happen.

    Jobs are edgepeft processes of their own: closing the terminal stops none of them.
    """
    points = list(entry_points(group="edgepeft.interfaces", name="tui"))
    try:
        launch = points[0].load()
    except (ImportError, IndexError) as error:
        lacking = getattr(error, "name", None) or "edgepeft_tui"
        raise MissingError(
            f"tui needs {lacking}, which is not installed: pip install 'edgepeft[tui]'"
        ) from None
    launch(recipe, serve=serve, port=port)
