"""SHA-256 of files and folders, remembered by size and modification time.

Hashing a 14 GB checkpoint for every build would make "nothing changed" slow to say; the memory makes it a
stat call. It lives in the user's cache folder and losing it costs only time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from edgepeft.errors import EdgepeftError, InputError
from edgepeft.utils.files import open_regular, read_json_object
from edgepeft.utils.temporary import sweep
from edgepeft.utils.user_folders import cache_folder as cache_folder
from edgepeft.utils.whole_files import write_json

FILE_BYTES = 4 << 40
"""Bytes of the largest file that is read to its end: none that a model or its rows lie in is larger."""
FOLDER_FILES = 10_000
"""Files that a folder of a model or an adapter may hold at its top; the largest checkpoints have hundreds."""


def hash_file(path: Path) -> str:
    """SHA-256 of an ordinary file's bytes, read in one pass of constant memory.

    Raises FileNotFoundError, and InputError for a pipe, a device, and what is too large to be read.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > FILE_BYTES:
            raise InputError(f"{path}: {size} bytes is larger than any file that edgepeft reads")
        return hashlib.file_digest(stream, "sha256").hexdigest()


class DigestCache:
    """Remembers file digests between commands; safe to lose, safe to share."""

    def __init__(self, store: Path | None = None) -> None:
        self._store = store or cache_folder() / "digests.json"
        self._known: dict[str, str] = {}
        self._dirty = False
        with contextlib.suppress(OSError, InputError):
            self._known = {
                key: str(digest) for key, digest in read_json_object(self._store).items()
            }

    def file(self, path: Path) -> str:
        """SHA-256 of one file. Raises OSError, InputError as ``hash_file`` does."""
        status = path.stat()
        tag = f"{os.path.realpath(path)}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
        if tag not in self._known:
            self._known[tag] = hash_file(path)
            self._dirty = True
        return self._known[tag]

    def folder(
        self, path: Path, names: Iterable[str] | None = None, further: Iterable[str] = ()
    ) -> str:
        """One digest over the named files of a folder (default: all files at its top, hidden ones aside), and
        ``further`` ones.

        Raises OSError, InputError, also for a folder of more than ``FOLDER_FILES`` files.
        """
        total = hashlib.sha256()
        chosen = _files_of(path) if names is None else names
        for name in sorted({*chosen, *further}):
            total.update(os.fsencode(name) + f"\0{self.file(path / name)}\n".encode())
        return total.hexdigest()

    def save(self) -> None:
        """Write the memory back; a folder that can't be written to is no error."""
        if not self._dirty:
            return
        recent = dict(list(self._known.items())[-5000:])
        with contextlib.suppress(OSError, EdgepeftError):
            self._store.parent.mkdir(parents=True, exist_ok=True)
            sweep(self._store.parent)
            write_json(self._store, recent, durable=False)
        self._dirty = False


def _files_of(folder: Path) -> list[str]:
    """The names of a folder's files, in order."""
    found: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] != "." and entry.is_file():
                found.append(entry.name)
            if len(found) > FOLDER_FILES:
                raise InputError(
                    f"{folder}: contains more than {FOLDER_FILES} files; name the folder of one model or adapter"
                )
    return sorted(found)
