"""The files of a bundle: there, unchanged, its own, and inside its folder.

A bundle may come from anywhere, and onnxruntime opens whatever path a graph names. Nothing here
trusts a name before it has been looked at. Every error is an InputError of one line.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from edgepeft.errors import InputError, one_line
from edgepeft.runtime.external_data import external_locations

AGAIN = "copy or build the bundle again"
DISTRUST = "take the bundle from a source you trust"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_SHARED_LIBRARY = re.compile(r"\.(so|dll|dylib)(\.[0-9.]+)?$", re.IGNORECASE)


class Expected(NamedTuple):
    """What the manifest says of one file: its size in bytes and its SHA-256 in lower-case hex."""

    size: int
    sha256: str


Outputs = Mapping[str, Expected]
"""A path relative to the bundle, with forward slashes, to what the manifest says of it."""


def read_json(where: Path) -> dict[str, Any]:
    """Read the JSON object in ``where``; InputError when it is not one."""
    try:
        value = json.loads(where.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({one_line(error)}); {AGAIN}") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: must hold a JSON object; {AGAIN}")
    return value


def require_inside(name: str, where: Path) -> None:
    """Refuse a relative path that is not plainly below its folder, on any operating system."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or re.search(r"[\\:\0]", name):
        raise InputError(f"{where}: {name!r} is not a path inside the bundle; {DISTRUST}")


def regular_file(root: Path, name: str) -> os.stat_result:
    """Stat the regular file ``root/name``, refusing a symbolic link anywhere below ``root``."""
    at = root
    for part in PurePosixPath(name).parts:
        at = at / part
        if at.is_symlink():
            raise InputError(f"{at}: a symbolic link; replace it by the file it stands for")
    try:
        info = os.lstat(at)
    except OSError:
        raise InputError(f"{at}: missing, though the manifest lists it; {AGAIN}") from None
    if not stat.S_ISREG(info.st_mode):
        raise InputError(f"{at}: not a regular file; {AGAIN}")
    return info


def compare(root: Path, name: str, expected: Expected, *, hashes: bool) -> None:
    """Refuse ``root/name`` unless it has the expected size and, with ``hashes``, SHA-256."""
    at = root / name
    size = regular_file(root, name).st_size
    if size != expected.size:
        raise InputError(f"{at}: {size} bytes, the manifest says {expected.size}; {AGAIN}")
    if not hashes:
        return
    try:
        with at.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{at}: cannot be read ({error.strerror})") from None
    if actual != expected.sha256:
        raise InputError(f"{at}: changed since it was built (other SHA-256); {AGAIN}")


def read_genai_config(where: Path) -> tuple[dict[str, Any], list[str]]:
    """Read genai_config.json and name every model file that onnxruntime-genai opens for it.

    Refuses a configuration that makes the runtime load a shared library.
    """
    regular_file(where.parent, where.name)
    config = read_json(where)
    names: list[str] = []
    for key, value in _walk(config):
        is_library = isinstance(value, str) and _SHARED_LIBRARY.search(value)
        if key == "custom_ops_library" or is_library:
            raise InputError(f"{where}: {key} would load the library {value!r}; {DISTRUST}")
        if key == "filename":
            names.append(str(value))
    return config, names


def vouch_for_graph(root: Path, name: str, outputs: Outputs, manifest: Path) -> None:
    """Refuse a graph that is not wholly made of listed files lying in its own folder."""
    require_inside(name, manifest)
    if not name.endswith(".onnx"):
        # By another suffix onnxruntime reads another format, which nothing here examined.
        raise InputError(f"{manifest}: the graph {name!r} must be an .onnx file; {AGAIN}")
    _own_file(root, name, outputs, manifest)
    for location in sorted(external_locations(root / name)):
        if not _PLAIN_NAME.fullmatch(location):
            raise InputError(
                f"{root / name}: takes weights from {location!r}, not a file beside it; {DISTRUST}"
            )
        _own_file(root, str(PurePosixPath(name).parent / location), outputs, manifest)


def require_listed(name: str, outputs: Outputs, manifest: Path) -> None:
    """Refuse a file that is used but whose content the manifest does not vouch for."""
    if name not in outputs:
        raise InputError(f"{manifest}: {name} is not among its outputs; {AGAIN}")


def _own_file(root: Path, name: str, outputs: Outputs, manifest: Path) -> None:
    require_listed(name, outputs, manifest)
    # onnxruntime follows a hard link out of the folder as readily as a symbolic one.
    if regular_file(root, name).st_nlink > 1:
        at = root / name
        raise InputError(
            f"{at}: hard-linked to a file elsewhere; make it a copy: cp {at} {at}.new && "
            f"mv {at}.new {at}"
        )


def _walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every (nearest key, value) of a JSON tree, at any depth."""
    yield key, value
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _walk(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, key)
