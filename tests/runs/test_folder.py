"""Output folders are finished or not there, whatever kills the process or fills the disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgepeft.config.target_sections import Gates
from edgepeft.errors import EXIT_FAILED, EXIT_USAGE, EdgepeftError, InputError
from edgepeft.evaluation.gates import missed_gates
from edgepeft.runs import folder as workspace
from edgepeft.runs.folder import (
    FORMAT,
    MANIFEST,
    RunFolder,
    describe_files,
    free_bytes,
    is_finished,
    publish,
    read_manifest,
    staging_folder,
    write_json,
)

KEY = "k" * 64


def stage(final: Path, content: str = "content") -> Path:
    staged = staging_folder(final)
    (staged / "inner").mkdir()
    (staged / "inner" / "data.bin").write_text(content)
    (staged / "empty").write_text("")
    return staged


def finished(final: Path, content: str = "content") -> Path:
    publish(stage(final, content), final, {"key": KEY, "result": {"n": 1}})
    return final


def refuse(number: int) -> Callable[..., Any]:
    """A function that fails as the operating system does."""

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if ".tmp" in path.name]


def test_manifest_lists_every_file_with_its_hash(tmp_path: Path) -> None:
    final = tmp_path / "stages" / "merge-1"
    returned = publish(stage(final), final, {"key": KEY, "result": {"n": 1}})
    written = json.loads((final / MANIFEST).read_text())
    digest = hashlib.sha256(b"content").hexdigest()
    assert written == returned == read_manifest(final)
    assert written == {
        "format": FORMAT,
        "key": KEY,
        "result": {"n": 1},
        "outputs": {
            "empty": {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0},
            "inner/data.bin": {"sha256": digest, "bytes": 7},
        },
    }
    assert is_finished(final, KEY)
    assert leftovers(final.parent) == []
    assert final.stat().st_mode & 0o777 == 0o755
    assert describe_files(final) == written["outputs"]


def test_data_is_flushed_then_described_then_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "out"
    staged = stage(final)
    done: list[tuple[str, str]] = []

    def note(place: Any, name: str) -> None:
        original = getattr(place, name)

        def noted(path: Path, *rest: Any, **named: Any) -> Any:
            done.append((name, path.name))
            return original(path, *rest, **named)

        monkeypatch.setattr(place, name, noted)

    flush = os.fsync

    def flushed(handle: int) -> None:
        done.append(("fsync", Path(f"/proc/self/fd/{handle}").readlink().name))
        flush(handle)

    monkeypatch.setattr(os, "fsync", flushed)
    note(workspace, "write_json")
    note(Path, "replace")
    publish(staged, final, {"key": KEY})
    assert [entry for entry in done if not entry[1].startswith(f".{MANIFEST}")] == [
        ("write_json", MANIFEST),
        ("fsync", "data.bin"),
        ("fsync", MANIFEST),
        ("fsync", "empty"),
        ("fsync", "inner"),
        ("fsync", staged.name),
        ("replace", staged.name),
        ("fsync", tmp_path.name),
    ]


@pytest.mark.parametrize(
    "broken",
    [
        (os, "fsync"),
        (workspace, "write_json"),
        (workspace, "describe_files"),
        (workspace, "hash_file"),
    ],
)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OSError(errno.EIO, "I/O")])
def test_a_crash_anywhere_leaves_nothing_under_the_final_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: tuple[ModuleType, str],
    error: BaseException,
) -> None:
    final = tmp_path / "out"
    staged = stage(final)

    def crash(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(*broken, crash)
    with pytest.raises((type(error), EdgepeftError)):
        publish(staged, final, {"key": KEY})
    assert not final.exists()
    assert not is_finished(final, KEY)


def test_a_finished_folder_is_replaced_whole(tmp_path: Path) -> None:
    final = finished(tmp_path / "out", "old and longer")
    (final / "stale").write_text("from before")
    finished(final, "new")
    assert (final / "inner" / "data.bin").read_text() == "new"
    assert not (final / "stale").exists()
    assert is_finished(final, KEY)
    assert leftovers(tmp_path) == []


def test_a_crash_while_replacing_leaves_the_old_one_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = finished(tmp_path / "out", "old")
    staged = stage(final, "new")
    monkeypatch.setattr(json, "dump", refuse(errno.ENOSPC))
    with pytest.raises(EdgepeftError):
        publish(staged, final, {"key": KEY})
    assert is_finished(final, KEY)
    assert (final / "inner" / "data.bin").read_text() == "old"


def remove_data(final: Path) -> None:
    (final / "inner" / "data.bin").unlink()


def truncate_data(final: Path) -> None:
    (final / "inner" / "data.bin").write_text("conten")


def remove_manifest(final: Path) -> None:
    (final / MANIFEST).unlink()


def manifest_with(**changes: Any) -> Callable[[Path], None]:
    def change(final: Path) -> None:
        manifest = {**json.loads((final / MANIFEST).read_text()), **changes}
        (final / MANIFEST).write_text(json.dumps(manifest))

    return change


@pytest.mark.parametrize(
    "spoil",
    [
        remove_data,
        truncate_data,
        remove_manifest,
        manifest_with(key="other"),
        manifest_with(format=FORMAT + 1),
        manifest_with(outputs={"inner/data.bin": {}}),
        manifest_with(outputs={"inner/data.bin": None}),
        manifest_with(outputs=["inner/data.bin"]),
        manifest_with(outputs=None),
        lambda final: (final / MANIFEST).write_text("{"),
        lambda final: (final / MANIFEST).write_text("[]"),
        lambda final: (final / MANIFEST).write_bytes(b"\xff"),
    ],
)
def test_what_is_missing_changed_or_made_for_something_else_is_not_finished(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    final = finished(tmp_path / "out")
    assert is_finished(final, KEY)
    spoil(final)
    assert not is_finished(final, KEY)


@pytest.mark.parametrize("attempt", ["lock", "stage"])
def test_a_path_below_a_file_is_the_users_mistake(tmp_path: Path, attempt: str) -> None:
    (tmp_path / "file").write_text("")
    run = RunFolder(tmp_path / "file" / "run")
    with pytest.raises(InputError, match="is not a folder; choose another --out"):
        run.locked().__enter__() if attempt == "lock" else staging_folder(run.stage("base", KEY))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_the_users_mistake(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written to"):
        RunFolder(tmp_path / "run").locked().__enter__()


@pytest.mark.parametrize(
    ("number", "kind", "status", "match"),
    [
        (errno.ENOSPC, EdgepeftError, EXIT_FAILED, "the disk is full; free some space"),
        (errno.EDQUOT, EdgepeftError, EXIT_FAILED, "the disk is full"),
        (errno.EIO, EdgepeftError, EXIT_FAILED, "Input/output error"),
        (errno.EACCES, InputError, EXIT_USAGE, r"cannot be written to \(Permission denied\)"),
        (errno.EROFS, InputError, EXIT_USAGE, "cannot be written to .*Read-only"),
    ],
)
@pytest.mark.parametrize("where", ["mkdir", "mkdtemp"])
def test_refusals_of_the_operating_system_keep_their_meaning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    number: int,
    kind: type[EdgepeftError],
    status: int,
    match: str,
) -> None:
    final = tmp_path / "new" / "out"
    target = {"mkdir": (Path, "mkdir"), "mkdtemp": (tempfile, "mkdtemp")}
    monkeypatch.setattr(*target[where], refuse(number))
    with pytest.raises(EdgepeftError, match=match) as caught:
        staging_folder(final)
    assert type(caught.value) is kind
    assert caught.value.exit_status == status
    assert str(final.parent) in str(caught.value)
    monkeypatch.undo()
    assert not final.exists()


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO]
)
@pytest.mark.parametrize("where", [(os, "fsync"), (json, "dump"), (Path, "replace")])
def test_a_refusal_in_the_middle_is_a_failure_of_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str], number: int
) -> None:
    """What could be written at first was no mistake of the user's; the line speaks of the final folder."""
    final = tmp_path / "new" / "out"
    staged = stage(final)
    monkeypatch.setattr(*where, refuse(number))
    with pytest.raises(EdgepeftError) as caught:
        publish(staged, final, {"key": KEY})
    assert type(caught.value) is EdgepeftError
    assert str(caught.value).startswith(f"{final}: ")
    monkeypatch.undo()
    assert not final.exists()


def test_json_is_the_old_or_the_new_never_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"state": "größer"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"state": "größer"}
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))
    with pytest.raises(EdgepeftError, match=r"run\.json: the disk is full"):
        write_json(path, {"state": "new"})
    assert json.loads(path.read_text()) == {"state": "größer"}
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_free_space_is_asked_of_the_nearest_folder_there_is(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b" / "c") == pytest.approx(free_bytes(tmp_path), rel=0.1)


def test_a_measure_that_came_out_as_nothing_is_read_as_that(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"result": {"task_kl": NaN}}')
    found = read_manifest(tmp_path)
    assert found is not None
    # None would be a measure that was not taken, and no gate asks for those.
    assert missed_gates(found["result"], Gates(max_task_kl=0.05, min_reference_gain=None))
