"""Where an adapter lies: the folder that was named, or the newest checkpoint of a trainer's output folder."""

from __future__ import annotations

import re
from pathlib import Path

from edgepeft.errors import InputError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FULL = "edgepeft_training.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def find_adapter(folder: Path) -> Path:
    """The folder that holds the adapter that ``folder`` names.

    That is the folder itself, or where a trainer wrote checkpoints alone, the newest of them. Raises InputError
    for what is no adapter's, saying what it is instead.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such adapter folder")
    if (folder / CONFIG).exists() or (folder / FULL).is_file():
        return folder
    steps = {
        int(found[1]): entry
        for entry in folder.iterdir()
        if (found := _CHECKPOINT.fullmatch(entry.name)) and (entry / CONFIG).is_file()
    }
    if steps:
        return steps[max(steps)]
    raise InputError(f"{folder}: not a PEFT adapter folder (no {CONFIG}){_what_else(folder)}")


def _what_else(folder: Path) -> str:
    if (folder / "config.json").is_file():
        return "; it is a model's: name it as model, or make an adapter of it with edgepeft extract"
    inner = sorted(entry.parent for entry in folder.glob(f"*/{CONFIG}"))
    if len(inner) == 1:
        return f"; there is one in {inner[0]}"
    if inner:
        return f"; it holds several, name one: {', '.join(entry.name for entry in inner[:5])}"
    return ""
