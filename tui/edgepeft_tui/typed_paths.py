"""Paths that somebody has typed, or that stand in a recipe: any text at all, and so perhaps no path."""

from __future__ import annotations

import os
from pathlib import Path


def typed_path(text: str, folder: Path) -> Path | None:
    """A path, relative ones from ``folder``, as an absolute one; None for a text that no path can be."""
    try:
        return (folder / Path(text).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError):
        # A name that is too long, the home of nobody, a loop of links, a character that no path has.
        return None


def existing_path(text: str, folder: Path) -> Path | None:
    """The same if there is something; None otherwise."""
    path = typed_path(text, folder)
    return path if path is not None and is_there(path) else None


def is_there(path: Path) -> bool:
    """Whether there is something at a path that we may look at."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def relative(path: Path, folder: Path) -> str:
    """A path as it is written into a recipe in ``folder``: relative where it lies below."""
    folder = folder.resolve()
    return os.path.relpath(path, folder) if path.is_relative_to(folder) else str(path)
