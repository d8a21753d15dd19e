"""What is written is whole or not there, and what the dead leave goes while the living keep theirs."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgepeft.errors import EdgepeftError, InputError
from edgepeft.utils.temporary import sweep
from edgepeft.utils.whole_files import (
    append_text,
    discard,
    new_folder,
    remove_folder,
    require_writable,
    scratch_folder,
    settle,
    staging_folder,
    write_file,
    write_json,
    write_text,
)
from tests.faulty import fault

AT_WORK = """
import sys
from pathlib import Path
from edgepeft.utils.whole_files import staging_folder
staged = staging_folder(Path(sys.argv[1]))
(staged / "data").write_text("half")
print(staged, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that has begun to write ``tmp_path/out``, and its temporary folder."""
    with subprocess.Popen(
        [sys.executable, "-c", AT_WORK, str(tmp_path / "out")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_what_is_at_work_is_never_swept_and_what_was_killed_is(
    tmp_path: Path, worker: tuple[subprocess.Popen[str], Path]
) -> None:
    process, staged = worker
    sweep(tmp_path)
    discard(staging_folder(tmp_path / "out"))
    assert (staged / "data").read_text() == "half"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    discard(staging_folder(tmp_path / "other"))
    assert list(tmp_path.iterdir()) == []


def test_only_our_own_names_are_swept(tmp_path: Path) -> None:
    """Hidden and temporary files of other programs, and what is linked to, stay."""
    (tmp_path / "precious").mkdir()
    kept = {".out.tmpabcdefgh", ".x.swp", "out.edgepeft-abcdefgh.tmp", "precious"}
    for name in kept - {"precious"}:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".out.edgepeft-abcdefgh.tmp").symlink_to(tmp_path / "precious")
    (tmp_path / ".file.edgepeft-abcdefgh.tmp").write_text("left")
    os.mkfifo(tmp_path / ".pipe.edgepeft-abcdefgh.tmp")
    sweep(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert kept <= left
    assert ".file.edgepeft-abcdefgh.tmp" not in left


def test_where_a_file_system_knows_no_locks_age_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for name, age in (("new", 0), ("old", 2 * 86400)):
        folder = tmp_path / f".{name}.edgepeft-abcdefgh.tmp"
        folder.mkdir()
        os.utime(folder, (time.time() - age,) * 2)
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".new.edgepeft-abcdefgh.tmp"]


def test_a_folder_being_replaced_by_a_process_that_was_killed_gets_its_name_back(
    tmp_path: Path,
) -> None:
    with new_folder(tmp_path / "out") as staged:
        (staged / "data").write_text("old")
    (tmp_path / ".out.edgepeft-abcdefgh.old").mkdir()
    (tmp_path / "out").rename(tmp_path / ".out.edgepeft-abcdefgh.old" / "out")
    sweep(tmp_path)
    assert (tmp_path / "out" / "data").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("kind", ["create", "fsync", "rename"])
@pytest.mark.parametrize("what", ["ENOSPC", "EFBIG", "EROFS", "EACCES", "EIO"])
@pytest.mark.parametrize("there", [False, True])
def test_a_fault_at_any_operation_leaves_the_old_folder_or_none(
    tmp_path: Path, kind: str, what: str, there: bool
) -> None:
    """Every operation in turn, until none is left; each failure is one of ours, and leaves nothing else."""
    place, mark = tmp_path / "place", tmp_path / "mark"
    out = place / "out"

    def fill(content: str) -> None:
        with new_folder(out) as staged:
            (staged / "inner").mkdir()
            (staged / "data").write_text(content)
            write_text(staged / "inner" / "text", content)

    if there:
        fill("old")
    for number in range(1, 40):
        with fault(kind, number, what, place, mark):
            said = refusal_of(lambda: fill("new"))
        if not mark.exists():
            break
        # A folder whose name is flushed too late is there all the same, and whole.
        found = (out / "data").read_text() if out.exists() else None
        assert found in ("new", "old" if there else None), number
        assert str(out) in said
        assert [path.name for path in place.iterdir()] in ([], ["out"]), number
        if found == "new":
            break
    else:
        pytest.fail("no end of operations")
    assert number > 1 or kind == "rename"


def test_a_folder_that_must_stay_is_filled_from_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mounted folder can't be renamed to; its files come one by one, the one that counts last."""
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda place: Path(place) == out)
    with new_folder(out) as staged:
        assert staged.parent == out
        (staged / "data").write_text("content")
    assert [path.name for path in out.iterdir()] == ["data"]

    staged = staging_folder(out)
    for name in ("b", "a", "manifest"):
        (staged / name).write_text("")
    moved: list[str] = []
    original = Path.replace

    def replace(path: Path, target: Path) -> Path:
        moved.append(path.name)
        if path.name == "manifest":
            raise OSError(errno.ENOSPC, "full")
        return original(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(EdgepeftError, match="disk is full"):
        settle(staged, out, last="manifest")
    discard(staged)
    assert moved[:3] == ["a", "b", "manifest"]
    assert [path.name for path in out.iterdir()] == ["data"]


def test_a_link_is_followed_and_an_empty_folder_filled(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with new_folder(tmp_path / "link") as staged:
        (staged / "data").write_text("content")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "data").read_text() == "content"


@pytest.mark.parametrize(
    ("name", "words"),
    [("file", "is not a folder"), ("n" * 300, "name is too long"), ("loop", "loop|not a folder")],
)
def test_a_name_that_can_not_be_written_is_told_before_the_work(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match=words):
        staging_folder(tmp_path / name)


def test_long_names_leave_room_for_the_temporary_one(tmp_path: Path) -> None:
    name = "ü" * 120
    with new_folder(tmp_path / name) as staged:
        (staged / "data").write_text("")
    write_json(tmp_path / name / ("n" * 255), {})
    assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["data", "n" * 255]


def test_a_files_writer_may_fail_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    write_text(path, "old")
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    with pytest.raises(ZeroDivisionError):
        write_file(path, lambda stream: stream.write(bytes(1 // 0)))
    with pytest.raises(TypeError):
        write_json(path, {"not": object()})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_can_not_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    require_writable(tmp_path / "picture.png")
    (tmp_path / "old.png").write_text("old")
    require_writable(tmp_path / "old.png")
    assert (tmp_path / "old.png").read_text() == "old"
    (tmp_path / "folder.png").mkdir()
    for name in ("nowhere/picture.png", "folder.png", "old.png/picture.png", "/proc/picture.png"):
        with pytest.raises(InputError, match="cannot be written"):
            require_writable(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"old.png", "folder.png"}


def test_removing_a_folder_leaves_all_of_it_or_nothing(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "place" / "out").mkdir(parents=True, exist_ok=True)
        with fault("rename", number, "EIO", tmp_path / "place", tmp_path / "mark"):
            try:
                remove_folder(tmp_path / "place" / "out")
            except OSError:
                assert (tmp_path / "place" / "out").is_dir()
    assert list((tmp_path / "place").iterdir()) == []


def test_scratch_goes_at_the_end_and_after_the_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / ".scratch.edgepeft-abcdefgh.tmp").mkdir()
    with scratch_folder() as made, scratch_folder() as other:
        (made / "data").write_text("")
        assert sorted(tmp_path.iterdir()) == sorted([made, other])
    assert list(tmp_path.iterdir()) == []


def refusal_of(work: Callable[[], object]) -> str:
    """What an error of ours says; nothing where there is none."""
    try:
        work()
    except EdgepeftError as error:
        return str(error)
    return ""


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_text_is_added_to_the_same_file(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    append_text(file, "one\n")
    with file.open() as opened:
        append_text(file, "zwei ü\n")
        assert opened.read() == "one\nzwei ü\n"


def test_text_that_does_not_fit_is_not_there_in_part(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from edgepeft.utils.whole_files import append_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "append_text(Path(sys.argv[1]), 'x' * 100_000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, file], capture_output=True, text=True, check=False
    )
    assert "EdgepeftError" in done.stderr
    assert file.read_text() == "before\n"
