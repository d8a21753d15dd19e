"""lm_eval's tasks by their names: found, looked at before anything of them is fetched, and loaded."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepeft.compat.lm_eval_fetching import CodeRefused, RowsError, watched
from edgepeft.errors import EdgepeftError, InputError, MissingError, one_line

_NEAR = 5
"""Names that are listed for one that is unknown; lm_eval knows some fifteen thousand."""
_OTHERWISE = "lm_eval itself takes it, with edgepeft.harness.BundleLM as its model"


@dataclass
class Loaded:
    """Tasks and groups as lm_eval's ``TaskManager.load`` returns them, by their names."""

    tasks: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, Any] = field(default_factory=dict)
    group_map: dict[str, list[str]] = field(default_factory=dict)


def load_tasks(asked: Sequence[str], folder: Path | None) -> Loaded:
    """Load tasks, groups and tags; a name may be a pattern such as ``mmlu_*``.

    ``folder`` has task files of the user's own, whose relative paths of rows begin there. Raises InputError for
    names that lm_eval doesn't know, tasks that can't be taken and files that can't be read, MissingError for rows
    and libraries that are not here.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(f"--task-folder {folder}: no such folder")
    folder = folder and folder.resolve()
    manager = _manager(asked, folder)
    names = [name for one in asked for name in _named(manager, one)]
    for name in names:
        for member, settings in _members(manager, name):
            _refuse(member, settings)
    loaded = Loaded()
    # lm_eval takes relative paths of rows from the working folder.
    with contextlib.chdir(folder) if folder else contextlib.nullcontext():
        for name in dict.fromkeys(names):
            found = _load(manager, name, folder)
            loaded.tasks.update(found["tasks"])
            loaded.groups.update(found.get("groups", {}))
            loaded.group_map.update(found.get("group_map", {}))
    for name, task in loaded.tasks.items():
        _refuse(
            name,
            {
                "unsafe_code": getattr(task, "UNSAFE_CODE", False),
                "doc_to_image": getattr(task, "MULTIMODAL", False),
            },
        )
    return loaded


def _manager(asked: Sequence[str], folder: Path | None) -> Any:
    """Who knows the tasks. Reading all of lm_eval's takes seconds, so the user's own come first."""
    from lm_eval.tasks import TaskManager

    if folder is not None:
        own = TaskManager(include_path=str(folder), include_defaults=False)
        if set(asked) <= {*own.all_subtasks, *own.all_tags}:
            return own
        for path in sorted(folder.rglob("*.yaml")):
            _refuse_unreadable(path)
    return TaskManager(include_path=str(folder) if folder else None)


def _named(manager: Any, asked: str) -> list[str]:
    known: list[str] = manager.all_tasks
    if asked in known:
        return [asked]
    if "*" in asked or "?" in asked:
        found: list[str] = manager.match_tasks([asked])
        if found:
            return found
        raise InputError(f"--tasks {asked}: no task has such a name; lm_eval ls tasks lists them")
    near = difflib.get_close_matches(asked, known, n=_NEAR)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise InputError(
        f"--tasks {asked}: no such task; {hint}lm_eval ls tasks lists all, --task-folder adds your own"
    )


def _refuse_unreadable(path: Path) -> None:
    """Raise InputError for a file that is no YAML: lm_eval passes over it without a word."""
    import yaml

    try:
        yaml.compose(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a task file that can be read ({one_line(error)})") from None


def _members(manager: Any, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The tasks that a name stands for, with the settings in their files as far as lm_eval has read them."""
    entry = manager.task_index.get(name)
    if entry is None:
        return
    settings = entry.cfg or {}
    if name in manager.all_tags:
        for member in sorted(entry.tags):
            yield from _members(manager, member)
        return
    members = settings.get("task")
    if not isinstance(members, list):
        yield name, settings
        return
    for member in members:
        inside = member if isinstance(member, dict) else {"task": member}
        yield name, inside
        below = inside.get("task", inside.get("group"))
        if isinstance(below, str) and below != name:
            yield from _members(manager, below)


def _refuse(name: str, settings: Mapping[str, Any]) -> None:
    """Raise InputError for a task that can't be taken."""
    if settings.get("unsafe_code"):
        raise InputError(
            f"--tasks {name}: runs code that the model writes, on this machine, which eval does not do; "
            f"{_OTHERWISE} and confirm_run_unsafe_code"
        )
    if settings.get("doc_to_image") or settings.get("doc_to_audio"):
        raise InputError(f"--tasks {name}: asks about pictures or sounds; a bundle reads text")


def _load(manager: Any, name: str, folder: Path | None) -> Any:
    refused: list[str] = []
    try:
        with watched() as refused:
            found = manager.load([name])
    except RowsError as error:
        raise _without_rows(name, error, folder) from error
    except CodeRefused:
        pass
    except ModuleNotFoundError as error:
        raise MissingError(
            f"--tasks {name}: needs the library {error.name}, which is not installed; lm_eval's page of the task "
            "says which package brings it"
        ) from error
    except (EdgepeftError, MemoryError):
        raise
    except Exception as error:
        # A measure that was refused is None to lm_eval, which then fails elsewhere.
        if not refused:
            raise InputError(
                f"--tasks {name}: lm_eval can't load it ({type(error).__name__}: {one_line(error)})"
            ) from error
    if refused:
        raise InputError(
            f"--tasks {name}: takes its measure {refused[0]} from the hub as Python code, which eval does not "
            f"run; {_OTHERWISE}"
        )
    return found


def _without_rows(name: str, error: RowsError, folder: Path | None) -> EdgepeftError:
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub import constants

    cause, subject = error.cause, f"--tasks {name}: its data set {error.path}"
    if isinstance(cause, FileNotFoundError) and not isinstance(cause, DatasetNotFoundError):
        where = f"; paths of rows begin in {folder}" if folder else ""
        return InputError(f"{subject}: {one_line(cause)}{where}")
    if isinstance(cause, ConnectionError) and constants.HF_HUB_OFFLINE:
        return MissingError(
            f"{subject} is not on this machine, and HF_HUB_OFFLINE is set; unset it, or fetch the rows once "
            "where there is a connection"
        )
    if isinstance(cause, OSError):
        return MissingError(
            f"{subject} can't be fetched ({one_line(cause)}); check the connection, and for rows that are not "
            "public log in with hf auth login"
        )
    return InputError(f"{subject} can't be read ({type(cause).__name__}: {one_line(cause)})")
