"""Reading data files: JSON Lines, JSON, CSV, TSV, Parquet and folders of ``datasets``, all to the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.data.arrow_files import is_dataset_folder, read_dataset_folder, read_parquet
from edgepeft.data.record_files import read_csv, read_json, read_jsonl, read_tsv
from edgepeft.data.rows import Row
from edgepeft.data.shape_names import Record, find_shape
from edgepeft.data.shapes import rename, to_rows
from edgepeft.data.usage import Usage
from edgepeft.errors import InputError
from edgepeft.utils.files import read_text_file

MAX_TEXT = 256 * 10**6
"""Bytes of a plain text file."""

_READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
}
SUFFIXES = tuple(_READERS)
"""Of the files that hold rows."""
SHARDS = ".shards"
"""Of the folder that stands for a split in several files: all of them, in the order of their names."""


@dataclass(frozen=True)
class DataFile:
    """A data file's rows, how it is laid out (``format``, ``columns``, ``shape``), and what of it is used."""

    rows: list[Row]
    format: str
    columns: list[str]
    shape: str
    usage: Usage

    def layout(self) -> dict[str, Any]:
        """The layout as JSON can hold it, with the number of ``rows`` and the ``fields`` used and not."""
        return {
            "format": self.format,
            "columns": self.columns,
            "shape": self.shape,
            "rows": len(self.rows),
            "fields": self.usage.as_dict(),
        }


def read_file(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    shape: str = "auto",
    system: str | None = None,
) -> DataFile:
    """All of ``path``; arguments and errors are those of ``read_rows``."""
    path = Path(path)
    records = read_records(path)
    mapping, usage = columns or {}, Usage(path.name)
    renamed = rename(records, mapping, path.name)
    rows = to_rows(renamed, shape, system, path.name, preferred=mapping, usage=usage)
    return DataFile(
        rows,
        format=path.suffix.lower().lstrip(".") if path.is_file() else "dataset",
        columns=list(dict.fromkeys(name for _, record in records for name in record)),
        shape=find_shape(shape, renamed[0][1], path.name, set(mapping)),
        usage=usage,
    )


def read_rows(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    shape: str = "auto",
    system: str | None = None,
) -> list[Row]:
    """All rows of ``path``, in the file's order; never an empty list.

    ``columns`` maps our column name to theirs (``{"prompt": "question"}``). ``shape`` is one of
    "messages", "prompt", "instruction", "preference", "score", "labels", "label", "tags", "pairs" and "text", or
    "auto" to go by the first row's columns.
    ``system`` is put in front of conversations that have no system message.

    Raises InputError, naming file and line, for a file that is missing, not readable or empty, for a
    row that does not fit, and for a field that can't be left out; MissingError if Parquet is read
    without pyarrow.
    """
    return read_file(path, columns=columns, shape=shape, system=system).rows


def read_text(path: Path, key: str) -> str:
    """A plain text file; ``key`` is the recipe key that names it. Raises InputError."""
    try:
        return read_text_file(path, MAX_TEXT)
    except FileNotFoundError:
        raise InputError(f"{key}: {path}: cannot be read as text (no such file)") from None
    except InputError as error:
        reason = str(error).removeprefix(str(path)).lstrip(": ")
        raise InputError(f"{key}: {path}: cannot be read as text ({reason})") from None


def _read_shards(folder: Path) -> Iterator[Record]:
    """Records of a split's files, one after the other. Raises InputError, MissingError."""
    for file in sorted(folder.iterdir()):
        yield from _READERS[file.suffix](file)


def read_records(path: Path) -> list[Record]:
    """Every record of a file as it lies there, at least one. Raises InputError, MissingError."""
    try:
        there = path.exists()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not there and {"http:", "https:", "s3:", "gs:"} & set(path.parts):
        raise InputError(f"{path.name}: addresses are not read; download the file and name that")
    if not there:
        raise InputError(f"{path}: no such data file; check data.train and data.test")
    read = read_dataset_folder if is_dataset_folder(path) else _READERS.get(path.suffix.lower())
    if path.is_dir() and path.suffix == SHARDS:
        read = _read_shards
    elif path.is_dir() and not is_dataset_folder(path):
        raise InputError(f"{path}: no such data file, but a folder; name one of the files in it")
    if read is None:
        raise InputError(
            f"{path}: unknown kind of data file {path.suffix!r}; use {', '.join(_READERS)}"
        )
    try:
        records = list(read(path))
    except FileNotFoundError as error:
        raise InputError(f"{path}: {error.filename} is missing") from None
    if not records:
        raise InputError(f"{path}: contains no rows; a data file needs at least one")
    return records
