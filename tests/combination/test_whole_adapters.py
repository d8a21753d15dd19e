"""Commands that write an adapter leave it whole or not at all, whichever operation on files fails."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepeft.adapters.attach import open_adapter
from edgepeft.combination.extract import extract_folder
from edgepeft.combination.folders import combine_folders, compress_folder
from edgepeft.combination.methods import Combination
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.merging.lora import lora_factors
from tests.command import COMMAND, edgepeft
from tests.conftest import ModelMaker
from tests.faulty import environment, fault
from tests.stages import write_adapter
from tests.tiny import write_tiny_model

Work = Callable[[Path], dict[str, Any]]
FILES = {"adapter_config.json", "adapter_model.safetensors"}


@pytest.fixture
def adapter(tiny_model: ModelMaker, tmp_path: Path) -> Path:
    return write_adapter(tiny_model("llama"), tmp_path / "adapter")


@pytest.fixture
def works(tiny_model: ModelMaker, tmp_path: Path, adapter: Path) -> dict[str, Work]:
    """Each operation on adapters, as a function of where its result goes."""
    tuned = write_tiny_model(tmp_path / "tuned", "llama", seed=5)
    how = Combination("svd", (1.0, 1.0))
    return {
        "combine": lambda out: combine_folders([adapter, adapter], how, out),
        "compress": lambda out: compress_folder(adapter, 2, out),
        "extract": lambda out: extract_folder(tiny_model("llama"), tuned, 2, out),
    }


def is_whole(folder: Path) -> bool:
    assert {path.name for path in folder.iterdir()} >= FILES
    return bool(lora_factors(open_adapter(folder)).factors)


@pytest.mark.parametrize("name", ["combine", "compress", "extract"])
@pytest.mark.parametrize("what", ["ENOSPC", "EFBIG", "EROFS", "EACCES"])
def test_a_refusal_at_any_operation(
    tmp_path: Path, works: dict[str, Work], name: str, what: str
) -> None:
    """The error is ours and names the folder; what is there in the end is a whole adapter or nothing."""
    place, mark = tmp_path / "place", tmp_path / "mark"
    ended = False
    for number in range(1, 60):
        out = place / f"out-{number}"
        with fault("any", number, what, place, mark):
            try:
                works[name](out)
            except EdgepeftError as error:
                said = str(error)
            else:
                said = ""
        if not mark.exists():
            ended = True
            break
        assert out.name in said
        assert ".edgepeft-" not in said
        # Only the flush of the name itself comes after the rename.
        assert not out.exists() or is_whole(out)
        assert not list(place.glob(".*"))
    assert ended
    assert number > 4
    assert is_whole(out)


def test_a_folder_that_is_taken_or_can_not_be_written_is_told_before_the_work(
    tmp_path: Path, works: dict[str, Work]
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "at" / "all")
    for name, words in {
        "taken": "exists already",
        "file": "exists already",
        "file/below": "is not a folder",
        "n" * 300: "name is too long",
        "dangling": "exists already",
    }.items():
        for work in works.values():
            with pytest.raises(InputError, match=words):
                work(tmp_path / name)
    assert (tmp_path / "taken" / "file").read_text() == "mine"


@pytest.mark.parametrize("kilobytes", [1, 4, 16])
def test_a_limit_on_file_sizes_is_a_failure_in_one_line(
    tmp_path: Path, adapter: Path, kilobytes: int
) -> None:
    """The signal that comes with it (SIGXFSZ) does not end the command in silence either."""
    limit = kilobytes << 10
    done = subprocess.run(
        [*COMMAND, "combine", adapter, adapter, "--out", tmp_path / "both"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("edgepeft:"))
    assert f"{tmp_path / 'both'}: the file is larger than the limit" in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "both").exists()
    assert not list(tmp_path.glob(".both*"))


def test_a_command_killed_at_any_rename_is_swept_by_the_next(tmp_path: Path, adapter: Path) -> None:
    place = tmp_path / "place"
    arguments = ("combine", adapter, adapter, "--out", place / "both")
    for kind, number in (("create", 1), ("fsync", 2), ("rename", 1)):
        mark = tmp_path / "mark"
        own = environment(kind, number, "kill", place, mark)
        done = edgepeft(*arguments, env=own)
        assert (done.returncode, mark.exists()) == (-9, True)
        assert not (place / "both").exists()
        assert len(list(place.iterdir())) == 1
    assert edgepeft(*arguments).returncode == 0
    assert [path.name for path in place.iterdir()] == ["both"]
    assert is_whole(place / "both")
