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
        bool,
        typer.Option(
            "--serve", help="Open it in a browser on this machine instead of the terminal."
        ),
    ] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port for --serve.")] = 8000,
) -> None:
    """Open the wizard: choose model, data, method and devices in the terminal, and watch the build.

    Builds are separate processes; they continue when the terminal is closed.
    """
    points = list(entry_points(group="edgepeft.interfaces", name="tui"))
    try:
        launch = points[0].load()
    except (ImportError, IndexError) as error:
        lacking = getattr(error, "name", None) or "edgepeft_tui"
        raise MissingError(
            f"tui: {lacking} is not installed: pip install 'edgepeft[tui]'"
        ) from None
    launch(recipe, serve=serve, port=port)
