"""SHA-256 of files and folders, remembered by size and modification time.

Hashing a 14 GB checkpoint for every build would make "nothing changed" slow to say; the memory makes it a
stat call. It lives in the user's cache folder and losing it costs only time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from edgepeft.errors import EdgepeftError


def cache_folder() -> Path:
    """The user's cache folder for edgepeft (``EDGEPEFT_CACHE`` or the XDG place)."""
    own = os.environ.get("EDGEPEFT_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgepeft"


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in one pass of constant memory."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class DigestCache:
    """Remembers file digests between commands; safe to lose, safe to share."""

    def __init__(self, store: Path | None = None) -> None:
        self._store = store or cache_folder() / "digests.json"
        self._known: dict[str, str] = {}
        self._dirty = False
        with contextlib.suppress(OSError, ValueError):
            loaded = json.loads(self._store.read_text())
            if isinstance(loaded, dict):
                self._known = {str(k): str(v) for k, v in loaded.items()}

    def file(self, path: Path) -> str:
        """SHA-256 of one file."""
        status = path.stat()
        tag = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
        if tag not in self._known:
            self._known[tag] = hash_file(path)
            self._dirty = True
        return self._known[tag]

    def folder(self, path: Path, names: Iterable[str] | None = None) -> str:
        """One digest over the named files of a folder (default: all files at its top, hidden ones aside)."""
        chosen = (
            sorted(names)
            if names is not None
            else sorted(f.name for f in path.iterdir() if f.is_file() and f.name[0] != ".")
        )
        total = hashlib.sha256()
        for name in chosen:
            total.update(f"{name}\0{self.file(path / name)}\n".encode())
        return total.hexdigest()

    def save(self) -> None:
        """Write the memory back; a folder that can't be written to is no error."""
        if not self._dirty:
            return
        recent = dict(list(self._known.items())[-5000:])
        with contextlib.suppress(OSError, EdgepeftError):
            self._store.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._store.parent)
            with os.fdopen(handle, "w") as stream:
                json.dump(recent, stream)
            Path(name).replace(self._store)
        self._dirty = False
