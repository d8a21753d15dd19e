"""Output folders that are either finished or not there.

A stage writes into a temporary sibling of its final folder; ``publish`` flushes every file to disk, writes the
manifest ``edgepeft.json`` last and renames. Whatever kills the process, nothing under a final name is half-done.
The order (data flushed, metadata last, rename) follows torch's distributed checkpoint writer.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edgepeft.digests import hash_file
from edgepeft.errors import EdgepeftError, InputError

MANIFEST = "edgepeft.json"
FORMAT = 1
"""Version of the manifest's layout; a reader refuses a larger one."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: its record, logs, finished stages and bundles.

    ``variant`` is the folder among its bundles that those of one variant of the recipe go into, where the run
    builds several.
    """

    path: Path
    variant: str = ""

    @property
    def record(self) -> Path:
        """The run's own record, ``run.json``."""
        return self.path / "run.json"

    @property
    def events(self) -> Path:
        """Every event of the latest build, one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def logs(self) -> Path:
        """Where each stage's process writes what its libraries print."""
        return self.path / "logs"

    def stage(self, name: str, key: str) -> Path:
        """The final folder of a stage's output; another key is another folder, so nothing is overwritten."""
        return self.path / "stages" / f"{name}-{key[:12]}"

    def scratch(self, name: str, key: str) -> Path:
        """What a stage keeps between attempts, training checkpoints above all."""
        return self.path / "scratch" / f"{name}-{key[:12]}"

    def bundle(self, target: str) -> Path:
        """The bundle for a target."""
        return self.path / "bundles" / self.variant / target

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run folder for one build; a second one is refused. Raises EdgepeftError, InputError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock", timeout=0)
            lock.acquire()
        except Timeout:
            raise EdgepeftError(
                f"{self.path}: another edgepeft build is at work in this folder; wait for it or choose "
                "another --out"
            ) from None
        except OSError as error:
            raise writing_failed(self.path, error) from None
        try:
            self._sweep()
            yield
        finally:
            lock.release()

    def clear(self) -> None:
        """Remove all that builds have made here; only while the lock is held."""
        for place in ("stages", "scratch", "bundles"):
            shutil.rmtree(self.path / place, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what killed runs left behind; only safe while the lock is held."""
        for place in (self.path / "stages", self.path / "bundles"):
            for leftover in _leftovers(place):
                shutil.rmtree(leftover, ignore_errors=True)


def _leftovers(place: Path) -> Iterator[Path]:
    """Unfinished folders in ``place`` and in the folders that group finished ones there."""
    for entry in list(place.iterdir()) if place.is_dir() else ():
        if entry.name.startswith(".") and ".tmp" in entry.name:
            yield entry
        elif entry.is_dir() and not entry.is_symlink() and not (entry / MANIFEST).is_file():
            yield from _leftovers(entry)


def writing_failed(path: Path, error: OSError) -> EdgepeftError:
    """Put an operating system's refusal to write into the words users are shown."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EdgepeftError(f"{path}: the disk is full; free some space and run the same command")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputError(f"{path}: cannot be written to ({error.strerror}); choose another --out")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return InputError(f"{path}: is not a folder; choose another --out")
    return EdgepeftError(f"{path}: {error.strerror or error}")


def staging_folder(final: Path) -> Path:
    """Make a temporary sibling of ``final`` to write into. Raises EdgepeftError where that is impossible."""
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{final.name}.tmp", dir=final.parent))
    except OSError as error:
        raise writing_failed(final, error) from None


def publish(staged: Path, final: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Flush, describe and rename a staged folder; returns the manifest as written.

    ``manifest`` is completed with ``format`` and ``outputs`` (SHA-256 and bytes of every file). A folder that
    already has the final name is replaced whole.
    """
    complete = {"format": FORMAT, **manifest, "outputs": describe_files(staged)}
    try:
        for file in sorted(p for p in staged.rglob("*") if p.is_file()):
            _fsync(file)
        write_json(staged / MANIFEST, complete)
        staged.chmod(0o755)
        _fsync(staged)
        if final.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{final.name}.tmp", dir=final.parent))
            final.replace(retired / final.name)
            staged.replace(final)
            shutil.rmtree(retired, ignore_errors=True)
        else:
            staged.replace(final)
        _fsync(final.parent)
    except OSError as error:
        raise writing_failed(final, error) from None
    return complete


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Relative path to SHA-256 and bytes, for every file below a folder except its manifest."""
    return {
        file.relative_to(folder).as_posix(): {
            "sha256": hash_file(file),
            "bytes": file.stat().st_size,
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != folder / MANIFEST
    }


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished folder, or None where there is none that can be read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def is_finished(folder: Path, key: str) -> bool:
    """Whether ``folder`` holds the finished output for ``key``, with every file there and of the right size."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.get("key") != key or manifest.get("format") != FORMAT:
        return False
    outputs = manifest.get("outputs")
    if not isinstance(outputs, dict):
        return False
    for name, facts in outputs.items():
        try:
            if (folder / name).stat().st_size != facts["bytes"]:
                return False
        except (OSError, KeyError, TypeError):
            return False
    return True


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part. Raises EdgepeftError.

    ``durable`` waits until it lies on the disk; without it a killed process loses nothing, a power cut might.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump(value, stream, indent=2, ensure_ascii=False)
            stream.write("\n")
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise writing_failed(path, error) from None


def free_bytes(path: Path) -> int:
    """Bytes free on the disk that holds ``path`` or its nearest existing parent."""
    place = path.resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def free_memory() -> int:
    """Bytes of memory that a new process can have without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
