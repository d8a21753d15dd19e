"""Output folders that are either finished or not there.

A stage writes into a temporary sibling of its final folder; ``publish`` writes the manifest ``edgepeft.json``
last, flushes and renames (``utils/whole_files``). Whatever kills the process, nothing under a final name is
half-done.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edgepeft.errors import EdgepeftError, InputError
from edgepeft.runs.digests import hash_file
from edgepeft.utils.crash_log import log_crashes_in
from edgepeft.utils.files import read_json_object
from edgepeft.utils.temporary import sweep
from edgepeft.utils.whole_files import settle
from edgepeft.utils.whole_files import staging_folder as staging_folder
from edgepeft.utils.whole_files import write_json as write_json
from edgepeft.utils.whole_files import writing_failed as writing_failed

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

    @property
    def tracking(self) -> Path:
        """What trackers keep here, a folder for each training, called as its stage's scratch folder."""
        return self.path / "tracking"

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
                f"{self.path}: another edgepeft build is at work in this folder; wait for it, or choose another "
                "--out"
            ) from None
        except OSError as error:
            raise writing_failed(self.path, error) from None
        try:
            self._sweep()
            log_crashes_in(self.logs)
            yield
            # An error on the way out is told by whoever has the last word, and its traceback lies here.
            log_crashes_in(None)
        finally:
            lock.release()

    def clear(self) -> None:
        """Remove all that builds have made here; only while the lock is held."""
        for place in ("stages", "scratch", "bundles", "tracking"):
            shutil.rmtree(self.path / place, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what killed runs left behind; only safe while the lock is held."""
        sweep(self.path)
        for place in (self.path / "stages", self.path / "bundles"):
            _sweep_groups(place)


def _sweep_groups(place: Path) -> None:
    """Remove unfinished folders in ``place`` and in the folders that group finished ones there."""
    sweep(place)
    for entry in list(place.iterdir()) if place.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink() and not (entry / MANIFEST).is_file():
            _sweep_groups(entry)


def publish(staged: Path, final: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Flush, describe and rename a staged folder; returns the manifest as written.

    ``manifest`` is completed with ``format`` and ``outputs`` (SHA-256 and bytes of every file). A folder that
    already has the final name is replaced whole.
    """
    try:
        outputs = describe_files(staged)
    except OSError as error:
        raise writing_failed(final, error, begun=True) from None
    complete = {"format": FORMAT, **manifest, "outputs": outputs}
    write_json(staged / MANIFEST, complete, named=final)
    settle(staged, final, last=MANIFEST)
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
        return read_json_object(folder / MANIFEST, own=True)
    except (OSError, InputError):
        return None


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
        except (OSError, KeyError, TypeError, ValueError):
            return False
    return True


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
