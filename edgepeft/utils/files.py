"""Files that may come from anyone, read within limits: a pipe would never end, and a name may be a device's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgepeft.errors import InputError

JSON_BYTES = 64 * 10**6
"""Bytes that a JSON file of settings may have; an index of a large checkpoint takes a few millions."""


def require_regular(path: Path) -> None:
    """Raise InputError for what is there and is neither an ordinary file nor a link to one."""
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe, socket or device"
        raise InputError(f"{path}: is {what}, where a file is expected")


def read_text_file(path: Path, limit: int = JSON_BYTES) -> str:
    """The UTF-8 text of an ordinary file of at most ``limit`` bytes.

    Raises FileNotFoundError where there is none, InputError for anything else that can't be read.
    """
    try:
        return _read(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text ({error})") from None


def _read(path: Path, limit: int) -> bytes:
    require_regular(path)
    try:
        size = path.stat().st_size
        if size > limit:
            raise InputError(f"{path}: has {size} bytes, which is beyond the limit of {limit}")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def read_json_object(path: Path, limit: int = JSON_BYTES) -> dict[str, Any]:
    """The object that a JSON file holds. Raises FileNotFoundError, InputError."""
    data = _read(path, limit)
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object")
    return value
