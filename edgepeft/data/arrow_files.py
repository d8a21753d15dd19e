"""Records of Arrow's files: Parquet, and folders that ``datasets`` wrote with ``save_to_disk``.

Both are compressed, so a small file may come to any size. What it comes to is read from its header first, and
counted on the way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgepeft.data.shape_names import Record
from edgepeft.errors import InputError, MissingError, one_line
from edgepeft.utils.files import open_regular, read_text_file

MAX_ROWS = 20_000_000
MAX_MADE, TIMES_THE_FILE = 4 * 10**8, 200
"""Characters that the rows of a file may come to: this many, or so many times the file's bytes."""
MAX_CELL = 64 * 10**6
_ROWS_AT_ONCE = 256
_DICT = "dataset_dict.json"
_STATE = "state.json"


def is_dataset_folder(path: Path) -> bool:
    """Whether a folder is one that ``datasets`` wrote with ``save_to_disk``."""
    return path.is_dir() and any((path / name).is_file() for name in (_STATE, _DICT))


def read_parquet(path: Path) -> Iterator[Record]:
    """Records of a Parquet file. Raises InputError, MissingError without pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise _missing(path) from error
    with open_regular(path) as stream:
        counter = _Counter(path.name, path.stat().st_size)
        try:
            with parquet.ParquetFile(pyarrow.PythonFile(stream, mode="r")) as file:
                _check_header(path, file.metadata, counter.most)
                # A text that many rows share is stored once, and is read as it is stored.
                texts = [
                    file.schema.column(n).path
                    for n in range(len(file.schema))
                    if file.schema.column(n).physical_type == "BYTE_ARRAY"
                ]
                with parquet.ParquetFile(
                    pyarrow.PythonFile(stream, mode="r"), read_dictionary=texts
                ) as shared:
                    for batch in shared.iter_batches(batch_size=_ROWS_AT_ONCE):
                        yield from counter.records(batch)
        except InputError:
            raise
        except (
            Exception
        ) as error:  # pyarrow has many of its own, and ValueError and OSError besides
            raise InputError(
                f"{path.name}: not readable as Parquet ({one_line(error)[:200]})"
            ) from error


def read_dataset_folder(path: Path) -> Iterator[Record]:
    """Records of a folder of ``datasets.save_to_disk``. Raises InputError, MissingError without pyarrow."""
    try:
        import pyarrow
    except ImportError as error:
        raise _missing(path) from error
    state = _facts(path)
    names = [str(entry["filename"]) for entry in state["_data_files"]]
    files = [path / name for name in names]
    if any(name != Path(name).name for name in names):
        raise InputError(f"{path / _STATE}: names files that are not beside it")
    counter = _Counter(path.name, sum(file.stat().st_size for file in files if file.is_file()))
    for file in files:
        try:
            with open_regular(file) as stream, pyarrow.ipc.open_stream(stream) as reader:
                for batch in reader:
                    for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                        yield from counter.records(batch.slice(start, _ROWS_AT_ONCE))
        except InputError:
            raise
        except FileNotFoundError:
            raise InputError(f"{file}: is missing; save the dataset again") from None
        except Exception as error:  # as above
            raise InputError(f"{file}: not readable as Arrow ({one_line(error)[:200]})") from error


def _facts(path: Path) -> Mapping[str, Any]:
    """What a dataset's folder says of its files. Raises InputError."""
    if (path / _DICT).is_file():
        splits = _json(path / _DICT).get("splits")
        known = [str(split) for split in splits] if isinstance(splits, list) else ["train"]
        raise InputError(
            f"{path}: holds the splits {', '.join(known)}; name one of them, as {path.name}/{known[0]}"
        )
    state = _json(path / _STATE)
    entries = state.get("_data_files")
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("filename"), str) for entry in entries
    ):
        raise InputError(f"{path / _STATE}: names no data files; save the dataset again")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise InputError(
            f"{path}: its rows are picked by an index; save it again with flatten_indices()"
        )
    return state


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_text_file(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({one_line(error)})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object")
    return value


def _check_header(path: Path, metadata: Any, most: int) -> None:
    """Refuse what comes to too much, as far as a Parquet file's header tells."""
    if metadata.num_rows > MAX_ROWS:
        raise InputError(
            f"{path.name}: has {metadata.num_rows} rows, more than the {MAX_ROWS} that are read"
        )
    size = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    if size > most:
        raise InputError(
            f"{path.name}: comes to {size} bytes, more than {most} for a file of its size"
        )


class _Counter:
    """Turns batches into records, and counts what they come to."""

    def __init__(self, name: str, size: int) -> None:
        self.most = max(MAX_MADE, TIMES_THE_FILE * size)
        self._name, self._rows, self._made = name, 0, 0

    def records(self, batch: Any) -> Iterator[Record]:
        """The records of a batch, one at a time. Raises InputError."""
        for n in range(batch.num_rows):
            record = {name: batch.column(i)[n].as_py() for i, name in enumerate(batch.schema.names)}
            self._rows += 1
            self._count(record, f"{self._name} row {self._rows}")
            yield f"{self._name} row {self._rows}", record

    def _count(self, record: Mapping[str, Any], where: str) -> None:
        waiting: list[Any] = [record]
        while waiting:
            item = waiting.pop()
            if isinstance(item, Mapping):
                waiting.extend(item.values())
            elif isinstance(item, list):
                waiting.extend(item)
            size = len(item) if isinstance(item, str | bytes | list) else 1
            if size > MAX_CELL:
                raise InputError(f"{where}: holds more than {MAX_CELL} characters; that is no row")
            self._made += size
        if self._made > self.most or self._rows > MAX_ROWS:
            raise InputError(
                f"{where}: its file comes to more than {self.most} characters or {MAX_ROWS} rows; split it"
            )


def _missing(path: Path) -> MissingError:
    return MissingError(f"{path.name}: reading it needs pyarrow; pip install 'edgepeft[train]'")
