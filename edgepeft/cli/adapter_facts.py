"""What the commands that make adapters share: where the base is, and how the outcome is printed."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from edgepeft.utils.terminal_text import visible_line
from edgepeft.utils.user_folders import library_places


def base_folder(name: str | None) -> Path | None:
    """The folder of a base model by path, known name or hub id; None for None. Raises InputError."""
    from edgepeft.errors import InputError
    from edgepeft.models import find_model

    if name is None:
        return None
    path = find_model(name, Path.cwd())
    if path.is_file():
        raise InputError(
            f"{name}: is a GGUF file; name a checkpoint's folder, such as stages/base-... of a run"
        )
    return path


def adapter_folder(folder: Path) -> Path:
    """The adapter that a command's argument means, with a word where it is another folder, and what its files
    ask for.

    Raises InputError.
    """
    from edgepeft.adapters.config import read_adapter_config
    from edgepeft.adapters.folder import find_adapter
    from edgepeft.adapters.overview import adapter_notes

    found = find_adapter(folder)
    if found != folder:
        typer.echo(
            f"{folder}: holds checkpoints of an adapter; {found.name}, the newest, is taken",
            err=True,
        )
    for note in adapter_notes(found, read_adapter_config(found)):
        typer.echo(note, err=True)
    return found


def quiet_libraries() -> None:
    """These commands work in the command's own process, where libraries would talk between our lines."""
    # Where there is no working folder, a library would end the process in words of its own.
    Path.cwd()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE"):
        os.environ.setdefault(name, "1")
    os.environ.update(library_places())
    warnings.simplefilter("ignore")


def show(facts: Mapping[str, Any], as_json: bool) -> None:
    """Print facts as JSON, or one a line for people."""
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    from edgepeft.combination.folders import facts_table

    rows = facts_table(facts)
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        typer.echo(f"{key.replace('_', ' '):<{width}}  {visible_line(value)}")
