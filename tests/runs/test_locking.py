"""One build at a time in a run's folder, and what killed ones left there is swept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgepeft.errors import EXIT_FAILED, EdgepeftError
from edgepeft.runs.folder import RunFolder, is_finished, publish, staging_folder

KEY = "k" * 64


def stage(final: Path) -> Path:
    staged = staging_folder(final)
    (staged / "data").write_text("content")
    return staged


def left_by_the_dead(final: Path) -> None:
    """What a process leaves that is killed while it writes."""
    subprocess.run([sys.executable, "-c", DIE, str(final)], check=False)


DIE = """
import os, signal, sys
from pathlib import Path
from edgepeft.runs.folder import staging_folder
(staging_folder(Path(sys.argv[1])) / "data").write_text("half")
os.kill(os.getpid(), signal.SIGKILL)
"""


def finished(final: Path) -> Path:
    publish(stage(final), final, {"key": KEY})
    return final


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if ".tmp" in path.name]


def test_another_key_is_another_folder() -> None:
    run = RunFolder(Path("run"))
    assert run.stage("merge", "a" * 64) != run.stage("merge", "b" * 64)
    assert run.scratch("train", "a" * 64) != run.scratch("train", "b" * 64)
    assert run.bundle("cpu-int4") == Path("run/bundles/cpu-int4")


HOLD = """
import sys
from pathlib import Path
from edgepeft.runs.folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_while_the_first_holds_the_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(EdgepeftError, match="another edgepeft build is at work") as caught:
            run.locked().__enter__()
        assert caught.value.exit_status == EXIT_FAILED
        # A killed holder must not leave the folder locked for ever.
        holder.kill()
    with run.locked():
        pass
    with run.locked():
        pass


def test_what_killed_runs_left_is_swept_and_the_rest_is_not(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    kept = finished(run.stage("merge", KEY))
    bundle = finished(run.bundle("cpu-int4"))
    for place in (
        run.stage("train", KEY),
        run.bundle("cpu-int4"),
        run.path / "bundles" / "v" / "fp32",
    ):
        left_by_the_dead(place)
    at_work = stage(run.stage("train", KEY))
    run.scratch("train", KEY).mkdir(parents=True)
    assert leftovers(tmp_path / "stages")
    assert leftovers(tmp_path / "bundles")
    with run.locked():
        assert leftovers(tmp_path / "stages") == [at_work.name]
        assert leftovers(tmp_path / "bundles") == leftovers(tmp_path / "bundles" / "v") == []
        assert is_finished(kept, KEY)
        assert is_finished(bundle, KEY)
        assert run.scratch("train", KEY).is_dir()
