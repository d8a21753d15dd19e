"""Which runs there are: the folders that builds on this machine have written to."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from edgepeft.workspace import write_json


def _index() -> Path:
    own = os.environ.get("EDGEPEFT_STATE")
    base = (
        Path(own)
        if own
        else Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "edgepeft"
    )
    return base / "runs.json"


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
        with contextlib.suppress(OSError, ValueError):
            record = json.loads((path / "run.json").read_text(encoding="utf-8"))
            if isinstance(record, dict):
                record["path"] = str(path)
                if record.get("state") == "running" and not _alive(record.get("pid")):
                    record["state"] = "killed"
                found.append(record)
    return sorted(found, key=lambda record: str(record.get("started", "")), reverse=True)


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
