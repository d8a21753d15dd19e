"""Writing a first recipe: the rows are looked at, columns are told apart, test rows are set aside."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepeft.config.schema import SCHEMA_FILE
from edgepeft.data.column_guess import guess_columns, in_words
from edgepeft.data.formats import read_records
from edgepeft.data.held_out import usual_share
from edgepeft.data.shape_names import COLUMNS, find_shape
from edgepeft.hub.ids import ROWS
from edgepeft.models import find_model, inspect_model
from edgepeft.models.tasks import GENERATION, task_of_head
from edgepeft.utils.yaml_text import flow

DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_TARGET = "cpu-int4"
_COMMENTS_AT = 44


@dataclass(frozen=True)
class Starter:
    """A recipe's ``text``, which holds ``raw``, and what was ``decided`` for it, a line each."""

    text: str
    raw: Mapping[str, Any]
    decided: tuple[str, ...]


@dataclass
class _Lines:
    """Keys of a recipe in YAML, each with a word on it."""

    raw: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def put(self, section: str, key: str, value: Any, comment: str = "") -> None:
        """A key, in a section or (where that is empty) at the top."""
        if section and section not in self.raw:
            self.raw[section] = {}
            self.lines.append(f"{section}:")
        (self.raw[section] if section else self.raw)[key] = value
        line = f"{'  ' if section else ''}{key}: {flow(value)}"
        self.lines.append(f"{line:<{_COMMENTS_AT}} # {comment}" if comment else line)


def start_recipe(
    model: str,
    data: str,
    *,
    adapter: str | None = None,
    targets: Sequence[str] = (),
    steps: int | None = None,
    test: str | None = None,
    folder: Path,
) -> Starter:
    """A recipe that trains ``model`` on the rows of ``data``, or carries over an ``adapter``, to ``targets``.

    Paths are relative to the working folder, and those of the recipe to ``folder``. ``test`` is a file or a share
    to hold out, chosen by the number of rows where it is None; ``steps`` bounds the training. Raises InputError,
    MissingError.
    """
    info = inspect_model(find_model(model, Path.cwd()))
    file = _hub_file(data) if data.startswith(ROWS) else Path(data).expanduser()
    records = read_records(file)
    task = task_of_head(info.architecture, info.config)
    columns = guess_columns(records, file.name, task)
    first = {**records[0][1], **columns}
    shape = find_shape("auto", first, file.name, set(columns))
    rows = f"{len(records)} rows; {_read_as(shape, columns)}"
    decided = [f"{file.name}: {rows}"]
    lines = _Lines()
    lines.put(
        "",
        "model",
        _placed(model, folder),
        f"{info.architecture}, {info.parameters / 1e6:.0f} M parameters",
    )
    held_out = usual_share(len(records), carried=adapter is not None) if test is None else test
    if held_out is None:
        lines.put("data", "test", _placed(data, folder), rows)
    else:
        lines.put("data", "train", _placed(data, folder), rows)
        lines.put(
            "data",
            "test",
            _placed(held_out, folder),
            "held-out rows, which the bundle is measured on",
        )
        decided.append(f"data.test: {held_out}" + ("" if test else ", held out of data.train"))
    if columns:
        lines.put("data", "columns", columns, "ours: the file's own")
    if adapter is not None:
        lines.put("", "adapter", _placed(adapter, folder), "carried over as it was trained")
    else:
        # What came rounded in another way than QLoRA rounds is trained on as it is.
        name = "lora" if info.on_own_grid else "qlora"
        lines.put("method", "name", name, "edgepeft methods lists all")
        objective = {"preference": "preference", "text": "text"}.get(shape)
        if objective is not None and task == GENERATION:
            lines.put("training", "objective", objective)
        if steps is None:
            lines.put("training", "epochs", 3, "passes over the training rows")
        else:
            lines.put("training", "max_steps", steps)
    lines.put("", "targets", list(targets) or [DEFAULT_TARGET], "edgepeft targets lists all")
    head = f"# yaml-language-server: $schema={SCHEMA_FILE.as_uri()}\n"
    return Starter(head + "\n".join(lines.lines) + "\n", lines.raw, tuple(decided))


def _hub_file(named: str) -> Path:
    """The file of rows on the hub. Raises InputError, MissingError."""
    from edgepeft.hub.fetch import rows

    return rows(named).path


def _read_as(shape: str, columns: Mapping[str, str]) -> str:
    """Which column was taken for what."""
    if columns:
        return in_words(columns)
    return f"read as {shape} ({' + '.join(COLUMNS[shape])})"


def _placed(value: str, folder: Path) -> str:
    """What is typed in the working folder, as the recipe in ``folder`` names it."""
    path = Path(value).expanduser()
    if not os.path.lexists(path):
        return value
    relative = os.path.relpath(path.absolute(), folder.absolute())
    # Far away, a path that stays true when the recipe is moved reads better.
    return str(path.absolute()) if relative.startswith(f"..{os.sep}..") else relative
