"""Files that may come from anyone, read within limits: a pipe would never end, and a name may be a device's."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepeft.errors import InputError, one_line, refusal
from edgepeft.utils import strict_json

JSON_BYTES = 32 * 10**6
"""Bytes that a JSON file of settings may have; an index of a large checkpoint takes a few millions."""


def require_regular(path: Path) -> None:
    """Raise InputError for what is there and is neither an ordinary file nor a link to one."""
    with contextlib.suppress(FileNotFoundError), open_regular(path):
        pass


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[io.BufferedReader]:
    """Open an ordinary file, or a link to one, for reading; never waits for the other end of a pipe.

    Raises FileNotFoundError where there is none, InputError for anything else that can't be opened or read.
    """
    try:
        handle = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    try:
        if (what := _other_than_file(os.fstat(handle).st_mode)) is not None:
            raise InputError(f"{path}: is {what}, not a file")
        with os.fdopen(handle, "rb", closefd=False) as stream:
            yield stream
    except OSError as error:
        raise _unreadable(path, error) from None
    finally:
        os.close(handle)


def read_bytes_file(path: Path, limit: int) -> bytes:
    """The bytes of an ordinary file that has at most ``limit`` of them. Raises FileNotFoundError, InputError."""
    with open_regular(path) as stream:
        # What says that it is too large need not be read to know.
        too_large = os.fstat(stream.fileno()).st_size > limit
        data = b"" if too_large else stream.read(limit + 1)
    if too_large or len(data) > limit:
        raise InputError(f"{path}: larger than {limit} bytes, the limit for such a file")
    return data


def read_text_file(path: Path, limit: int = JSON_BYTES) -> str:
    """The UTF-8 text of an ordinary file of at most ``limit`` bytes. Raises FileNotFoundError, InputError."""
    return as_text(read_bytes_file(path, limit), path)


def as_text(data: bytes, path: object) -> str:
    """The text that bytes of ``path`` are in UTF-8, without a byte order mark. Raises InputError."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path} line {line}: not UTF-8 text") from None


def read_json(path: Path, limit: int = JSON_BYTES, *, own: bool = False) -> Any:
    """The value that a JSON file holds.

    Raises FileNotFoundError; InputError also for what readers take differently: keys given twice, numbers that
    are not finite. ``own`` records may hold such numbers, for a measure that came out as NaN must miss its gate
    again when it is read.
    """
    text = read_text_file(path, limit)
    try:
        return json.loads(text) if own else strict_json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else one_line(error)
        raise InputError(f"{path}: not valid JSON ({reason})") from None


def read_json_object(path: Path, limit: int = JSON_BYTES, *, own: bool = False) -> dict[str, Any]:
    """The object that a JSON file holds, read as ``read_json`` does. Raises FileNotFoundError, InputError."""
    value = read_json(path, limit, own=own)
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object")
    return value


def _other_than_file(mode: int) -> str | None:
    """What something is that is no ordinary file, in words."""
    kinds = {
        stat.S_ISREG: None,
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
    }
    return next((what for is_kind, what in kinds.items() if is_kind(mode)), "a device")


def _unreadable(path: Path, error: OSError | ValueError) -> InputError:
    reason = refusal(error) if isinstance(error, OSError) else one_line(error)
    return InputError(f"{path}: cannot be read ({reason})")
