"""Data files as records: JSON Lines, JSON, CSV and TSV, each read within limits and with the place of every
row.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepeft.data.shape_names import Record
from edgepeft.errors import InputError, one_line
from edgepeft.utils import strict_json
from edgepeft.utils.files import open_regular, read_bytes_file

MAX_LINE = 64 * 10**6
"""Bytes of a line of JSON Lines, and characters of a cell: what has more is no row."""
MAX_WHOLE = 10**9
"""Bytes of a file that is read as a whole; JSON Lines may have any number."""


def read_jsonl(path: Path) -> Iterator[Record]:
    """Records of a file with a JSON object a line. Raises InputError."""
    number = 0
    with open_regular(path) as stream:
        # Only "\n" ends a line of JSON Lines; splitlines would also split at U+2028 inside a string.
        while line := stream.readline(MAX_LINE + 1):
            number += 1
            where = f"{path.name} line {number}"
            if len(line) > MAX_LINE:
                raise InputError(
                    f"{where}: has more than {MAX_LINE} bytes; a row of JSON Lines is one line"
                )
            yield from _line(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, where)


def _line(line: bytes, where: str) -> Iterator[Record]:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{where}: not UTF-8; save the file as UTF-8") from None
    if text.strip():
        try:
            value = parse_json(text)
        except ValueError as error:
            raise InputError(f"{where}: not valid JSON ({one_line(error)})") from None
        yield where, _object(value, where)


def read_json(path: Path) -> Iterator[Record]:
    """Records of a JSON file: a list of rows, or an object with one list. Raises InputError."""
    text = _text(path)
    try:
        value = parse_json(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # one object a line: JSON Lines under the wrong name
            yield from read_jsonl(path)
            return
        raise InputError(
            f"{path.name} line {error.lineno}: not valid JSON ({error.msg}, column {error.colno})"
        ) from None
    except ValueError as error:
        raise InputError(f"{path.name}: not valid JSON ({one_line(error)})") from None
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


def read_csv(path: Path, delimiter: str | None = None) -> Iterator[Record]:
    """Records of a CSV file with a header. Raises InputError.

    Its cells are separated by commas; by semicolons, as spreadsheets write where the comma is for decimals, or by
    tabs where the header has no comma.
    """
    csv.field_size_limit(MAX_LINE)  # Python's own, 128 KiB, is shorter than documents are
    text = _text(path)
    if delimiter is None:
        first = text.partition("\n")[0]
        delimiter = next((mark for mark in (",", ";", "\t") if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        # line_num counts lines, not rows: a quoted cell may hold several.
        where = f"{path.name} line {reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InputError(f"{where}: not valid CSV ({one_line(error)})") from None
        if cells is None:
            return
        if not cells:
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            twice = sorted(name for name, times in Counter(header).items() if times > 1)
            if twice:
                raise InputError(f"{where}: column {twice[0]!r} is there twice; rename one")
            continue
        if len(cells) != len(header):
            raise InputError(
                f"{where}: {len(cells)} cells for {len(header)} columns; "
                "put cells that hold the delimiter or quotes in double quotes"
            )
        yield where, dict(zip(header, cells, strict=True))


def read_tsv(path: Path) -> Iterator[Record]:
    """Records of a file with tabs between cells. Raises InputError."""
    return read_csv(path, delimiter="\t")


def parse_json(text: str) -> Any:
    """A JSON value; what is no number (NaN, as pandas writes it) is null.

    Raises ValueError where it is not valid, is nested too deeply, or gives a key twice: readers would disagree.
    """
    try:
        return json.loads(
            text, object_pairs_hook=strict_json.unique, parse_constant=lambda name: None
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _text(path: Path) -> str:
    """The file as text; a byte order mark, as Excel writes it, is dropped."""
    data = read_bytes_file(path, MAX_WHOLE)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path.name} line {line}: not UTF-8; save the file as UTF-8") from None


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f'{where}: a row should be an object such as {{"prompt": …}}')
    return value
