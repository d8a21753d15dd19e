"""The files of a bundle: there, unchanged, its own, and inside its folder.

onnxruntime opens whatever path a graph names, and readers of JSON and tokenizers read to the end of what they
are given. So no name is trusted and nothing is opened before it has been looked at: a link, a pipe or a device
is never read, and no file is read that is larger than it may be. Every error is an InputError of one line.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from edgepeft.errors import InputError, one_line
from edgepeft.utils import strict_json

AGAIN = "copy or build the bundle again"
DISTRUST = "take the bundle from a source you trust"

MOST_JSON_BYTES = 16 << 20
"""Of a manifest or configuration; a chat template and added tokens are in the largest of them."""

_Identity = tuple[int, int, int, int, int]
SETTLED_NS = 2_000_000_000
"""How long a file must have stayed unchanged for its digest to be remembered."""
_MOST_REMEMBERED = 65_536
_digests: dict[_Identity, str] = {}


class DamagedError(InputError):
    """A file of a bundle is not what its manifest says: neither a request's nor a recipe's fault."""


class Expected(NamedTuple):
    """What the manifest says of one file: its size in bytes and its SHA-256 in lower-case hex."""

    size: int
    sha256: str


Outputs = Mapping[str, Expected]
"""A path relative to the bundle, with forward slashes, to what the manifest says of it."""


def read_json(where: Path) -> dict[str, Any]:
    """Read the JSON object in ``where``, a regular file of ``MOST_JSON_BYTES`` at most.

    Raises InputError when it is not one. A key given twice is refused, for readers differ in which one they take,
    and so is a number that is not finite.
    """
    try:
        value = strict_json.loads(read_text(where, MOST_JSON_BYTES))
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({one_line(error)}); {AGAIN}") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: must hold a JSON object; {AGAIN}")
    return value


def read_text(where: Path, most: int) -> str:
    """The UTF-8 text of a regular file of at most ``most`` bytes, line ends as they are. Raises InputError."""
    with open_regular(where) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise InputError(f"{where}: longer than {most} bytes; {AGAIN}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{where}: not UTF-8 text; {AGAIN}") from None


def require_inside(name: str, where: Path) -> None:
    """Refuse a relative path that is not plainly below its folder, on any operating system."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or re.search(r"[\\:\x00-\x1f\x7f]", name):
        raise InputError(f"{where}: {name!r} is not a path inside the bundle; {DISTRUST}")


def regular_file(root: Path, name: str) -> os.stat_result:
    """Stat the regular file ``root/name``, refusing a symbolic link anywhere below ``root`` and a hard link."""
    at = root
    for part in PurePosixPath(name).parts:
        at = at / part
        try:
            info = os.lstat(at)
        except FileNotFoundError:
            raise DamagedError(
                f"{root / name}: missing, though the manifest lists it; {AGAIN}"
            ) from None
        except (OSError, ValueError) as error:
            raise _unreadable(at, error) from None
        if stat.S_ISLNK(info.st_mode):
            raise InputError(f"{at}: a symbolic link; replace it by the file it stands for")
    if not stat.S_ISREG(info.st_mode):
        raise InputError(f"{at}: not a regular file; {AGAIN}")
    # onnxruntime follows a hard link out of the folder as readily as a symbolic one.
    if info.st_nlink > 1:
        raise InputError(
            f"{at}: hard-linked to a file elsewhere; make it a copy: cp {at} {at}.new && "
            f"mv {at}.new {at}"
        )
    return info


@contextlib.contextmanager
def open_regular(at: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file for reading: never a link, and never waiting for a pipe. Raises InputError."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        if stat.S_ISLNK(os.lstat(at).st_mode):
            raise InputError(f"{at}: a symbolic link; replace it by the file it stands for")
        handle = os.open(at, flags | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise _unreadable(at, error) from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise InputError(f"{at}: not a regular file; {AGAIN}")
        with os.fdopen(handle, "rb", closefd=False) as file:
            yield file
    except OSError as error:
        raise _unreadable(at, error) from None
    finally:
        os.close(handle)


def _unreadable(at: Path, error: OSError | ValueError) -> InputError:
    reason = error.strerror if isinstance(error, OSError) else one_line(error)
    return InputError(f"{at}: cannot be read ({reason})")


def compare(root: Path, name: str, expected: Expected, *, hashes: bool) -> None:
    """Refuse ``root/name`` unless it has the expected size and, with ``hashes``, SHA-256. Raises DamagedError."""
    at = root / name
    size = regular_file(root, name).st_size
    if size != expected.size:
        raise DamagedError(f"{at}: {size} bytes, the manifest says {expected.size}; {AGAIN}")
    if hashes and sha256_of(at) != expected.sha256:
        raise DamagedError(f"{at}: changed since it was built (other SHA-256); {AGAIN}")


def sha256_of(at: Path) -> str:
    """SHA-256 of a regular file, read once as long as it is the same file. Raises InputError.

    It is the same while device, inode, size and both times stay. A file that was changed moments ago is not
    remembered, for it may be changed once more within the clock's resolution.
    """
    with open_regular(at) as file:
        before = _identity(os.fstat(file.fileno()))
        if before in _digests:
            return _digests[before]
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = _identity(os.fstat(file.fileno()))
        if after == before and time.time_ns() - after[-1] > SETTLED_NS:
            if len(_digests) >= _MOST_REMEMBERED:
                _digests.clear()
            _digests[before] = digest
        return digest


def _identity(info: os.stat_result) -> _Identity:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def require_listed(name: str, outputs: Mapping[str, object], manifest: Path) -> None:
    """Refuse a file that is used but whose content the manifest does not vouch for."""
    if name not in outputs:
        raise InputError(f"{manifest}: {name} is not among its outputs; {AGAIN}")
