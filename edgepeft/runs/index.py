"""Which runs there are: the folders that builds on this machine have written to."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgepeft.errors import EdgepeftError, InputError
from edgepeft.runs.folder import RunFolder
from edgepeft.utils.files import read_json, read_json_object, read_text_file
from edgepeft.utils.scalars import TEXT_BYTES, TextProblem
from edgepeft.utils.temporary import sweep
from edgepeft.utils.user_folders import state_folder as state_folder
from edgepeft.utils.whole_files import write_json
from edgepeft.utils.yaml_text import read_yaml


def _index() -> Path:
    return state_folder() / "runs.json"


def _known() -> list[str]:
    with contextlib.suppress(OSError, InputError):
        paths = read_json(_index())
        if isinstance(paths, list):
            return [path for path in paths if isinstance(path, str) and "\0" not in path]
    return []


def remember_run(path: Path) -> None:
    """Note a run folder in the user's index; an index that can't be written is no error."""
    paths = [known for known in _known() if known != str(path)]
    with contextlib.suppress(OSError, EdgepeftError):
        _index().parent.mkdir(parents=True, exist_ok=True)
        sweep(_index().parent)
        write_json(_index(), [*paths, str(path)][-500:])


def all_runs(extra: Path | None = None, damaged: list[str] | None = None) -> list[dict[str, Any]]:
    """The records of known runs that still exist, and of those below ``extra``; newest first.

    A run that says it is running but whose process is gone reads as ``killed``. What is wrong with records that
    can't be read is added to ``damaged``.
    """
    paths = {Path(path) for path in _known()}
    if extra is not None and extra.is_dir():
        paths.update(record.parent for record in extra.resolve().glob("*/run.json"))
    found = []
    for path in sorted(paths):
        try:
            found.append({**run_record(path), "path": str(path)})
        except FileNotFoundError:
            continue
        except InputError as error:
            if damaged is not None:
                damaged.append(str(error))
    return sorted(found, key=lambda record: str(record.get("started", "")), reverse=True)


def read_run(path: Path) -> dict[str, Any]:
    """A run's record as ``run_record`` reads it, empty where there is none that can be read."""
    try:
        return run_record(path)
    except (FileNotFoundError, InputError):
        return {}


def run_record(path: Path) -> dict[str, Any]:
    """A run's record; its state is killed if its process is gone in mid-work.

    Raises FileNotFoundError where there is none, InputError for one that is damaged.
    """
    place = path / "run.json"
    record = read_json_object(place, own=True)
    if (key := _unsound(record)) is not None:
        raise InputError(f"{place}: damaged; {key} has the wrong type")
    if record.get("state") == "running" and not _alive(record.get("pid")):
        record["state"] = "killed"
    return record


_Sound = Callable[[Any], bool]


def _is(*kinds: type) -> _Sound:
    return lambda value: value is None or isinstance(value, kinds)


def _all(sound: _Sound) -> _Sound:
    return lambda value: value is None or (isinstance(value, list) and all(map(sound, value)))


def _has(fields: Mapping[str, _Sound]) -> _Sound:
    return lambda value: value is None or (isinstance(value, dict) and not _wrong(value, fields))


def _wrong(value: Mapping[str, Any], fields: Mapping[str, _Sound]) -> str | None:
    """The first key whose value is of another kind."""
    return next((key for key, sound in fields.items() if not sound(value.get(key))), None)


_TEXT, _NUMBER = _is(str), _is(int, float)
_BUNDLE: Mapping[str, _Sound] = {
    **dict.fromkeys(("target", "path", "model_file", "cell"), _TEXT),
    "bytes": _NUMBER,
    "gates": _is(str, list),
    "fidelity": _has(dict.fromkeys(("exact_match", "task_kl", "generic_kl", "recovery"), _NUMBER)),
}
_CELL: Mapping[str, _Sound] = {
    **dict.fromkeys(("cell", "target", "recipe", "state", "error"), _TEXT),
    "exit_status": _is(int),
    "bundle": _has(_BUNDLE),
}
_RECORD: Mapping[str, _Sound] = {
    **dict.fromkeys(("name", "recipe", "folder", "model", "state", "started", "error"), _TEXT),
    "targets": _all(_is(str)),
    "cells": _all(_is(str)),
    "result": _has({"bundles": _all(_has(_BUNDLE)), "cells": _all(_has(_CELL))}),
}
"""What readers of a record rely on; a key may be absent, and there may be others."""


def _unsound(record: Mapping[str, Any]) -> str | None:
    return _wrong(record, _RECORD)


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
        raise InputError(f"{path}: cannot be read; this run has no recipe to compare") from None
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
        raise InputError(f"{path}: not the folder of a run")
    with RunFolder(path).locked():
        for entry in path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != ".lock":
                entry.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
