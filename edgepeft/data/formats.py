"""Reading data files: JSON Lines, JSON, CSV, TSV and Parquet, all to the same rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgepeft.data.rows import Row
from edgepeft.data.shapes import Record, find_shape, rename, to_rows
from edgepeft.errors import InputError, MissingError, one_line

_MAX_FIELD = 2**31 - 1  # Python's own limit for a CSV field, 128 KiB, is shorter than documents are


def read_rows(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    shape: str = "auto",
    system: str | None = None,
) -> list[Row]:
    """All rows of ``path``, in the file's order; never an empty list.

    ``columns`` maps our column name to theirs (``{"prompt": "question"}``). ``shape`` is one of
    "messages", "prompt", "instruction", "preference", "label", "tags", "pairs" and "text", or "auto" to go by
    the first row's columns.
    ``system`` is put in front of conversations that have no system message.

    Raises InputError, naming file and line, for a file that is missing, not readable or empty and
    for a row that does not fit; MissingError if Parquet is read without pyarrow.
    """
    records = _records(Path(path))
    mapping = columns or {}
    renamed = rename(records, mapping, path.name)
    return to_rows(renamed, shape, system, path.name, preferred=mapping)


def read_layout(path: Path, *, columns: Mapping[str, str], shape: str) -> dict[str, Any]:
    """How a data file is laid out: its ``format``, ``columns``, the ``shape`` its rows are read in, and ``rows``.

    Raises InputError and MissingError as ``read_rows`` does.
    """
    records = _records(path)
    renamed = rename(records, columns, path.name)
    return {
        "format": path.suffix.lower().lstrip("."),
        "columns": list(records[0][1]),
        "shape": find_shape(shape, renamed[0][1], path.name, set(columns)),
        "rows": len(records),
    }


def _records(path: Path) -> list[Record]:
    """Every record of a file, at least one. Raises InputError, MissingError."""
    read = _READERS.get(path.suffix.lower())
    if not path.is_file():
        raise InputError(f"{path}: no such data file; check data.train and data.test")
    if read is None:
        raise InputError(
            f"{path}: unknown kind of data file {path.suffix!r}; use {', '.join(_READERS)}"
        )
    try:
        records = list(read(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)})") from error
    if not records:
        raise InputError(f"{path}: no rows in it; a data file needs at least one")
    return records


def _jsonl(path: Path) -> Iterator[Record]:
    yield from _json_lines(_text(path), path)


def _json_lines(text: str, path: Path) -> Iterator[Record]:
    # Only "\n" ends a line of JSON Lines; splitlines would also split at U+2028 inside a string.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path.name} line {number}"
            try:
                value = _parse_json(line)
            except ValueError as error:
                raise InputError(f"{where}: not valid JSON ({one_line(error)})") from error
            yield where, _object(value, where)


def _json(path: Path) -> Iterator[Record]:
    text = _text(path)
    try:
        value = _parse_json(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # one object a line: JSON Lines under the wrong name
            yield from _json_lines(text, path)
            return
        raise InputError(
            f"{path.name} line {error.lineno}: not valid JSON ({error.msg}, column {error.colno})"
        ) from error
    except ValueError as error:
        raise InputError(f"{path.name}: not valid JSON ({one_line(error)})") from error
    if isinstance(value, dict):
        lists = [key for key, item in value.items() if isinstance(item, list)]
        if len(lists) != 1:
            raise InputError(
                f"{path.name}: should be a list of rows or an object with one list, "
                f"this object has {len(lists)}; put the rows in one list"
            )
        value = value[lists[0]]
    if not isinstance(value, list):
        raise InputError(f"{path.name}: should be a list of rows; put the rows in [ … ]")
    for number, item in enumerate(value, 1):
        where = f"{path.name} row {number}"
        yield where, _object(item, where)


def _csv(path: Path, delimiter: str = ",") -> Iterator[Record]:
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD))
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        # line_num counts lines, not rows: a quoted cell may hold several.
        where = f"{path.name} line {reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InputError(f"{where}: not valid CSV ({one_line(error)})") from error
        if cells is None:
            return
        if not cells:
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise InputError(f"{where}: column {twice[0]!r} is there twice; rename one")
            continue
        if len(cells) != len(header):
            raise InputError(
                f"{where}: {len(cells)} cells for {len(header)} columns; "
                "put cells that hold the delimiter or quotes in double quotes"
            )
        yield where, dict(zip(header, cells, strict=True))


def _tsv(path: Path) -> Iterator[Record]:
    return _csv(path, delimiter="\t")


def _parquet(path: Path) -> Iterator[Record]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingError(
            f"{path.name}: Parquet needs pyarrow; pip install 'edgepeft[train]'"
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for record in batch.to_pylist():
                    number += 1
                    yield f"{path.name} row {number}", record
    except Exception as error:  # pyarrow has many of its own, and ValueError and OSError besides
        raise InputError(f"{path.name}: not readable as Parquet ({one_line(error)})") from error


_READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}
SUFFIXES = tuple(_READERS)
"""Of the files that hold rows."""


def _text(path: Path) -> str:
    """The file as text; a byte order mark, as Excel writes it, is dropped."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path.name} line {line}: not UTF-8; save the file as UTF-8") from error


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f'{where}: a row should be an object such as {{"prompt": …}}')
    return value


def read_data(path: Path, data: Mapping[str, Any]) -> list[Row]:
    """Rows as a stage's ``data`` settings say how to read them. Raises InputError."""
    return read_rows(path, columns=data["columns"], shape=data["shape"], system=data["system"])


def read_text(path: Path, key: str) -> str:
    """A plain text file; ``key`` is the recipe key that names it. Raises InputError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{key}: {path}: cannot be read as text ({error})") from None
