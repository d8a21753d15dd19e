"""What the files of a run say, held to what the screens rely on: a file of another form is shown as damaged.

Anyone may have written them: a copied folder, an older edgepeft, a disk that was full. For what a file holds
nothing here raises but ``Damaged``, and no screen reads a file of a run in another way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeGuard

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from edgepeft.errors import InputError
from edgepeft.metrics.names import vocabulary
from edgepeft.runs.index import all_runs, read_run
from edgepeft.utils import files
from edgepeft_tui.plain_text import visible_line

Size = Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]


class Damaged(Exception):
    """A file that can't be read, or whose values are not what its name promises; says which and why."""


def read_json(path: Path) -> Any:
    """What a JSON file of ours holds, numbers that are not finite too. Raises Damaged, FileNotFoundError."""
    # A place below a file is no damaged file.
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        return files.read_json(path, own=True)
    except InputError as error:
        raise Damaged(str(error).replace(str(path), path.name, 1)) from None


class _Part(BaseModel):
    """A part of a file: the keys that are shown have the types that are shown, others may be anything."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Answer(_Part):
    where: str
    wanted: str
    got: str


class _Measures(_Part):
    task: str = "text-generation"
    wrong: list[_Answer] | None = None


def _measures(facts: dict[str, Any] | None) -> dict[str, Any] | None:
    """Measures of a bundle; every figure that a table, a bar or a verdict shows is a number or absent."""
    if facts is None:
        return None
    _Measures.model_validate(facts)
    try:
        words = vocabulary(facts)
    except KeyError:
        raise ValueError(f"task: {facts['task']!r} is not known") from None
    columns = (*words.columns, *words.compared, words.rate)
    shown = {f"{who}{column.measure}" for column in columns for who in ("", "base_", "reference_")}
    shown |= {words.distance.measure, "base_task_loss", "reference_task_loss", "task_loss"}
    for name in shown & set(facts):
        value = facts[name]
        if value is not None and not is_number(value):
            raise ValueError(f"{name}: is not a number")
    for column in words.columns:
        for who, said in (("base", column.base), ("reference", column.reference)):
            if said is None and f"{who}_{column.measure}" not in facts:
                raise ValueError(f"{who}_{column.measure}: is missing")
    return facts


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value from JSON is a finite number, of a size that figures have."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) < 1e18
        and math.isfinite(value)
    )


Measures = Annotated[dict[str, Any] | None, AfterValidator(_measures)]
Verdict = str | list[str] | None


class _Adapter(_Part):
    name: str
    gates: Verdict
    fidelity: Measures = None


class _Lost(_Part):
    adapter: str | None
    rows: Annotated[int, Field(ge=0, le=10**12)]
    first: list[str]
    file: str


class _Suggestion(_Part):
    what: str
    why: str
    cost: str


class _Advice(_Part):
    lost: list[_Lost]
    suggested: list[_Suggestion] = Field(alias="try")


class _Bundle(_Part):
    target: str
    path: str
    bytes: Size
    gates: Verdict
    fidelity: Measures
    cell: str = ""
    warnings: list[str] = []
    adapters: list[_Adapter] = []
    advice: _Advice | None = None


class _Result(_Part):
    bundles: list[_Bundle] = []
    seconds: Size = 0
    peak_memory_bytes: Size = 0


class _Record(_Part):
    name: str = ""
    state: str = ""
    pid: Annotated[int, Field(gt=0, lt=1 << 31)] | None = None
    started: str = ""
    recipe: str | None = None
    model: str = ""
    targets: list[str] = []
    error: str | None = None
    result: _Result | None = None


class _Variant(_Part):
    values: dict[str, Any]
    bytes: Size = 0
    gates: Verdict = None
    fidelity: Measures = None


class _Comparison(_Part):
    entries: list[_Variant]


class _Rounding(_Part):
    layer_errors: list[Size] | None = None
    algorithm: str | None = None
    linear: str | None = None


def _hold(kind: type[_Part], read: Any, name: str) -> dict[str, Any]:
    """What was read, unless it is not of that kind. Raises Damaged."""
    try:
        kind.model_validate(read)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        said = str(first["msg"]).removeprefix("Value error, ")
        raise Damaged(visible_line(f"{name}: {place}: {said}")) from None
    assert isinstance(read, dict)
    return read


def damaged_record(run: Path, why: str) -> dict[str, Any]:
    """The record of a run whose own can't be used."""
    return {"name": run.name, "path": str(run), "state": "damaged", "error": why}


def checked_record(record: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """A run's record as it was read, or one that says that it is damaged."""
    try:
        return {"name": run.name, **_hold(_Record, dict(record), "run.json")}
    except Damaged as error:
        return damaged_record(run, str(error))


def read_record(run: Path) -> dict[str, Any]:
    """The record in a run's folder: empty without one, in the state ``damaged`` where it can't be used."""
    try:
        raw = read_json(run / "run.json")
        # Held first: what asks the system for a process takes the number as it stands.
        _hold(_Record, raw, "run.json")
    except FileNotFoundError:
        return {}
    except Damaged as error:
        return damaged_record(run, str(error))
    return checked_record(read_run(run), run)


def known_records(below: Path) -> list[dict[str, Any]]:
    """The records of the runs that are known on this machine and of those ``below`` a folder, newest first."""
    try:
        found = {
            Path(str(r["path"])): checked_record(r, Path(str(r["path"]))) for r in all_runs(below)
        }
    except (OverflowError, RecursionError):
        found = {}
    if below.is_dir():
        for file in below.resolve().glob("*/run.json"):
            # What can't be read is left out of the history, and is here all the same.
            if file.parent not in found and (record := read_record(file.parent)):
                found[file.parent] = {"path": str(file.parent), **record}
    return sorted(found.values(), key=lambda record: str(record.get("started", "")), reverse=True)


def read_comparison(run: Path) -> list[dict[str, Any]]:
    """The variants that ``edgepeft compare`` has kept in a run, none without a comparison. Raises Damaged."""
    # Not loaded before a result is looked at: it knows how to build.
    from edgepeft.pipeline.compare import RECORD, vocabulary_of

    try:
        read = _hold(_Comparison, read_json(run / RECORD), RECORD)
    except FileNotFoundError:
        return []
    entries: list[dict[str, Any]] = read["entries"]
    measured = [entry for entry in entries if "fidelity" in entry]
    for entry in measured:
        lacks = {"fidelity", "bytes", "gates"} - {k for k, v in entry.items() if v is not None}
        if lacks - {"gates"} or "gates" not in entry:
            raise Damaged(f"{RECORD}: a variant lacks {', '.join(sorted(lacks))}")
    for entry in measured:
        if not is_number(entry["fidelity"].get(vocabulary_of(measured).distance.measure)):
            raise Damaged(f"{RECORD}: a variant has no distance from the reference")
    return entries


def read_rounding(path: Path, *keys: str) -> dict[str, Any]:
    """How layers were rounded, from the part of a JSON file at ``keys``. Raises Damaged, FileNotFoundError."""
    read = read_json(path)
    for key in keys:
        read = read.get(key) if isinstance(read, dict) else None
    return _hold(_Rounding, read, path.name)
