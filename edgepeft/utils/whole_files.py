"""Files and folders that are whole or not there, whatever kills the process or fills the disk.

Everything is written under a temporary name beside its final one, flushed to disk and renamed. The order (data
flushed, the manifest last, rename) follows torch's distributed checkpoint writer.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from edgepeft.errors import EdgepeftError, InputError, refusal, system_error
from edgepeft.utils.temporary import (
    REPLACED,
    UNFINISHED,
    release,
    sweep,
    temporary_file,
    temporary_folder,
)
from edgepeft.utils.terminal_text import ENCODING_ERRORS

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Refusals that only writing meets."""


def writing_failed(path: Path, error: OSError, *, begun: bool = False) -> EdgepeftError:
    """Put an operating system's refusal to write into the words users are shown.

    Before anything is written, ``begun`` unset, a place that can't be written to is the user's mistake.
    """
    if begun or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return EdgepeftError(f"{path}: {refusal(error)}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputError(f"{path}: cannot be written to ({error.strerror}); choose another --out")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return InputError(f"{path}: is not a folder; choose another --out")
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return InputError(f"{path}: {refusal(error)}; choose another --out")
    return EdgepeftError(f"{path}: {refusal(error)}")


@contextlib.contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A temporary folder to fill; it becomes ``final`` at the end of the block. Raises as ``staged_folder``."""
    with staged_folder(final) as staged:
        yield staged
        settle(staged, final)


@contextlib.contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """A temporary folder to fill and to ``settle`` within the block; it goes where the block fails.

    Raises EdgepeftError for a refusal to write, InputError where ``final`` can't be written to at all. Errors
    speak of ``final``: nobody knows the temporary name, which is gone besides.
    """
    staged = staging_folder(final)
    try:
        yield staged
    except BaseException as error:
        discard(staged)
        if (met := _writing_error(error, staged)) is not None:
            raise writing_failed(final, met, begun=True) from error
        if isinstance(error, EdgepeftError) and str(staged) in str(error):
            raise type(error)(str(error).replace(str(staged), str(final))) from None
        raise


def staging_folder(final: Path) -> Path:
    """Make a temporary folder to write into, for ``settle`` or ``discard``; what the dead left there goes.

    It lies beside ``final``, or inside where ``final`` is there and nothing can be put in its place. Raises
    EdgepeftError and InputError as ``writing_failed`` says.
    """
    final = _real(final)
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(final.lstat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        place = final if _must_stay(final) else final.parent
        place.mkdir(parents=True, exist_ok=True)
        sweep(place)
        return temporary_folder(place, final.name, UNFINISHED)
    except OSError as error:
        raise writing_failed(final, error) from None


def settle(staged: Path, final: Path, *, last: str | None = None) -> None:
    """Flush a staged folder and rename it; a folder that has the final name is replaced whole.

    ``last`` names the file that makes a folder finished, for a place where files come one by one. Raises
    EdgepeftError.
    """
    final = _real(final)
    try:
        _flush(staged)
        if staged.parent == final:
            _move_up(staged, final, last)
            return
        if final.is_dir() and any(final.iterdir()):
            _exchange(staged, final)
        else:
            staged.replace(final)
        _fsync(final.parent)
        release(staged)
    except OSError as error:
        raise writing_failed(final, error, begun=True) from None


def discard(staged: Path) -> None:
    """Remove a staged folder, if it is there."""
    shutil.rmtree(staged, ignore_errors=True)
    release(staged)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that nobody finds half of it, even where this is killed. Raises OSError."""
    retired = temporary_folder(folder.parent, folder.name, UNFINISHED)
    try:
        folder.replace(retired / folder.name)
        _fsync(folder.parent)
    finally:
        discard(retired)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder among the system's temporary files, gone at the end; what the dead left there goes too."""
    place = Path(tempfile.gettempdir())
    sweep(place)
    made = temporary_folder(place, "scratch", UNFINISHED)
    try:
        yield made
    finally:
        discard(made)


def require_writable(path: Path) -> None:
    """Raise InputError where a file can't be written, before the work that fills it."""
    path = _real(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary, stream = temporary_file(path)
        stream.close()
        temporary.unlink()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({refusal(error)}); choose another file"
        ) from None


def write_json(path: Path, value: Any, *, durable: bool = True, named: Path | None = None) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part. Raises EdgepeftError.

    ``durable`` waits until it lies on the disk; without it a killed process loses nothing, a power cut might. An
    error speaks of ``named``, by default of the file.
    """

    def write(stream: BinaryIO) -> None:
        text = io.TextIOWrapper(stream, encoding="utf-8", errors=ENCODING_ERRORS, newline="\n")
        json.dump(value, text, indent=2, ensure_ascii=False)
        text.write("\n")
        text.detach()

    write_file(path, write, durable=durable, named=named)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all. Raises EdgepeftError."""
    write_file(path, lambda stream: stream.write(text.encode("utf-8", ENCODING_ERRORS)))


def append_text(path: Path, text: str) -> None:
    """Add text in UTF-8 to the end of a file, which is made where there is none; all of it, or none.

    What others have open stays the same file. Raises EdgepeftError.
    """
    path = _real(path)
    try:
        with path.open("ab") as stream:
            before = os.fstat(stream.fileno()).st_size
            try:
                stream.write(text.encode("utf-8", ENCODING_ERRORS))
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(stream.fileno(), before)
                raise
    except OSError as error:
        raise writing_failed(path, error, begun=True) from None


def write_file(
    path: Path,
    write: Callable[[BinaryIO], object],
    *,
    durable: bool = True,
    named: Path | None = None,
) -> None:
    """Have ``write`` fill a temporary file that then takes the place of ``path``. Raises EdgepeftError.

    ``durable`` and ``named`` are as in ``write_json``.
    """
    path = _real(path)
    temporary: Path | None = None
    try:
        temporary, stream = temporary_file(path)
        with stream:
            write(stream)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
            temporary.replace(path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if isinstance(error, OSError):
            raise writing_failed(named or path, error, begun=True) from None
        raise


def _real(path: Path) -> Path:
    """The path behind links; pathlib's own ``resolve`` raises where links form a loop."""
    return Path(os.path.realpath(path))


def _must_stay(final: Path) -> bool:
    """Whether a folder is there that nothing can be renamed to: a mounted one, or one in a closed folder."""
    return final.is_dir() and (os.path.ismount(final) or not os.access(final.parent, os.W_OK))


def _writing_error(error: BaseException, staged: Path) -> OSError | None:
    """The refusal to write below ``staged`` that an exception tells of, if it does."""
    met = system_error(error)
    if met is None:
        return None
    if met.filename is None:
        return met if met.errno in _FULL else None
    return met if Path(os.fsdecode(met.filename)).is_relative_to(staged) else None


def _move_up(staged: Path, final: Path, last: str | None) -> None:
    """Move what is in a staged folder into the folder that it lies in; all of it, or none."""
    moved: list[Path] = []
    try:
        for entry in sorted(staged.iterdir(), key=lambda entry: (entry.name == last, entry)):
            entry.replace(final / entry.name)
            moved.append(final / entry.name)
        _fsync(final)
    except BaseException:
        for entry in moved:
            entry.replace(staged / entry.name)
        raise
    discard(staged)


def _exchange(staged: Path, final: Path) -> None:
    """Put a folder into the place of another. One that is killed in between is undone by ``sweep``."""
    retired = temporary_folder(final.parent, final.name, REPLACED)
    old = retired / final.name
    try:
        final.replace(old)
        staged.replace(final)
    except BaseException:
        if not final.exists():
            old.replace(final)
        raise
    finally:
        if final.exists():
            discard(retired)
        release(retired)


def _flush(staged: Path) -> None:
    """Flush every file of a folder, then the folders, the outermost last."""
    for folder, folders, files in os.walk(staged, topdown=False):
        for name in sorted(files):
            if Path(folder, name).is_file():
                _fsync(Path(folder, name))
        for name in sorted(folders):
            _fsync(Path(folder, name))
    staged.chmod(0o755)
    _fsync(staged)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
