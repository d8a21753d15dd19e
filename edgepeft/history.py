"""Which runs there are: the folders that builds on this machine have written to."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from edgepeft.config.yaml_text import TEXT_BYTES, TextProblem, read_yaml
from edgepeft.errors import InputError
from edgepeft.utils.files import read_json_object, read_text_file
from edgepeft.utils.user_folders import state_folder as state_folder
from edgepeft.utils.whole_files import sweep, write_json
from edgepeft.workspace import RunFolder


def _index() -> Path:
    return state_folder() / "runs.json"


def _known() -> list[str]:
    with contextlib.suppress(OSError, ValueError):
        paths = json.loads(_index().read_text(encoding="utf-8"))
        if isinstance(paths, list):
            return [str(path) for path in paths]
    return []


def remember_run(path: Path) -> None:
    """Note a run folder in the user's index; an index that can't be written is no error."""
    paths = [known for known in _known() if known != str(path)]
    with contextlib.suppress(Exception):
        _index().parent.mkdir(parents=True, exist_ok=True)
        write_json(_index(), [*paths, str(path)][-500:])


def all_runs(extra: Path | None = None) -> list[dict[str, Any]]:
    """The records of known runs that still exist, and of those below ``extra``; newest first.

    A run that says it is running but whose process is gone reads as ``killed``.
    """
    paths = {Path(path) for path in _known()}
    if extra is not None and extra.is_dir():
        paths.update(record.parent for record in extra.resolve().glob("*/run.json"))
    found = []
    for path in paths:
        record = read_run(path)
        if record:
            found.append({**record, "path": str(path)})
    return sorted(found, key=lambda record: str(record.get("started", "")), reverse=True)


def read_run(path: Path) -> dict[str, Any]:
    """A run's record, empty where there is none that can be read; killed if its process is gone in mid-work."""
    try:
        record = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(record, dict):
        return {}
    if record.get("state") == "running" and not _alive(record.get("pid")):
        record["state"] = "killed"
    return record


def differences(one: Path, other: Path) -> list[tuple[str, Any, Any]]:
    """The recipe keys in which two runs differ, with the value in each; None where a run has no such key.

    Raises InputError for a folder without a resolved recipe.
    """
    left, right = _flat_recipe(one), _flat_recipe(other)
    keys = [*left, *(key for key in right if key not in left)]
    return [(key, left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)]


def _flat_recipe(run: Path) -> dict[str, Any]:
    path = run / "recipe.resolved.yaml"
    try:
        recipe = read_yaml(read_text_file(path, TEXT_BYTES))
    except (FileNotFoundError, InputError, TextProblem):
        raise InputError(f"{path}: cannot be read; the run has no recipe to compare") from None
    flat: dict[str, Any] = {}

    def walk(node: Any, key: str) -> None:
        if isinstance(node, dict) and node:
            for name, value in node.items():
                walk(value, f"{key}.{name}" if key else str(name))
        else:
            flat[key] = node

    walk(recipe, "")
    return flat


def delete_run(path: Path) -> None:
    """Remove a run's folder for good. Raises InputError for what is no run, EdgepeftError while it is at work."""
    record = read_run(path)
    if not record:
        raise InputError(f"{path}: is not the folder of a run")
    with RunFolder(path).locked():
        for entry in path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != ".lock":
                entry.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _alive(pid: object) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
