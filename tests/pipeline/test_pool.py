"""Stages in child processes: apart from each other, and gone when they should be."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from edgepeft.errors import EdgepeftError, GateError, InterruptedRun
from edgepeft.events import Event, discard
from edgepeft.stages.job import Stage, StageSettings
from edgepeft.stages.pool import THREADS, Workers
from edgepeft.utils.processors import processors


@pytest.fixture(autouse=True)
def _jobs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))


@pytest.fixture(autouse=True)
def _interrupts_are_heard() -> Iterator[None]:
    """Tests started in the background by a shell would not hear them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _stage(function: str, folder: Path) -> Stage:
    return Stage(
        name=function,
        kind="base",
        function=f"tests.worker_jobs:{function}",
        settings=StageSettings(),
        inputs={},
        files={},
        key="key",
        final=folder / "final",
        scratch=folder / "scratch",
    )


def _run(workers: Workers, function: str, folder: Path, sink: object = discard) -> Event:
    return workers.run(_stage(function, folder), {}, folder, folder / "log", sink)  # type: ignore[arg-type]


def test_stages_share_what_is_loaded_and_nothing_else(tmp_path: Path) -> None:
    """Each is a process of its own; what one does to its environment, the next does not see."""
    with Workers() as workers:
        first = _run(workers, "tell", tmp_path)["result"]
        second = _run(workers, "tell", tmp_path)["result"]
    assert first["seen"] == second["seen"] == "1"
    assert first["pid"] != second["pid"]
    assert first["parent"] == second["parent"] != os.getpid()
    assert not psutil.pid_exists(first["parent"])


def test_a_failed_or_killed_stage_says_so_and_the_next_one_runs(tmp_path: Path) -> None:
    """The class of the error comes through; a killed process is told from one that failed."""
    with Workers() as workers:
        with pytest.raises(GateError, match="gate: missed by much"):
            _run(workers, "gate", tmp_path)
        with pytest.raises(
            EdgepeftError, match=r"killed: its process was killed \(out of memory\?\)"
        ):
            _run(workers, "killed", tmp_path)
        assert _run(workers, "tell", tmp_path)["status"] == 0


def test_losing_the_process_that_forks_is_no_end(tmp_path: Path) -> None:
    """The kernel may choose it to free memory; the stage fails in words and another process takes over."""

    def kill_parent(event: Event) -> None:
        if event["event"] == "ready":
            child = psutil.Process(event["pid"])
            parent = child.parent()
            assert parent is not None
            parent.kill()
            child.kill()

    with Workers() as workers:
        with pytest.raises(EdgepeftError, match="patient: its process was killed"):
            _run(workers, "patient", tmp_path, kill_parent)
        assert _run(workers, "tell", tmp_path)["status"] == 0


@pytest.mark.parametrize("function", ["patient", "stubborn"])
def test_interrupts_reach_the_stage_and_a_second_one_ends_it(tmp_path: Path, function: str) -> None:
    """Ctrl-C once asks, twice insists; either way nothing is left running."""
    pids = []

    def interrupt(event: Event) -> None:
        if event["event"] == "ready":
            pids.append(event["pid"])
            if function == "stubborn":
                threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
            os.kill(os.getpid(), signal.SIGINT)

    with Workers() as workers, pytest.raises(InterruptedRun, match="interrupted"):
        _run(workers, function, tmp_path, interrupt)
    assert pids
    assert not psutil.pid_exists(pids[0])


def test_interrupt_while_libraries_load_leaves_nothing(tmp_path: Path) -> None:
    """Before the stage has a process of its own, there is one to end all the same."""
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with Workers() as workers, pytest.raises(InterruptedRun):
        _run(workers, "patient", tmp_path)
    running = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    assert not any("edgepeft.stages.worker" in command for command in running)


def test_a_stage_keeps_to_the_threads_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with Workers(threads=1) as workers:
        assert _run(workers, "threads", tmp_path)["result"] == {"told": 1, "torch": 1}


def test_a_stage_computes_with_the_cores_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted once for all its libraries; what the user says to one of them counts there."""
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    count = processors().threads
    with Workers() as workers:
        assert _run(workers, "threads", tmp_path)["result"] == {"told": count, "torch": count}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with Workers() as workers:
        assert _run(workers, "threads", tmp_path)["result"] == {"told": count, "torch": 1}


def test_another_thread_may_interrupt(tmp_path: Path) -> None:
    """A stage run from a thread hears nothing of Ctrl-C; whoever does can end it, and none begins after it."""
    ended: list[BaseException] = []
    begun = threading.Event()

    def run() -> None:
        try:
            _run(workers, "patient", tmp_path, lambda event: begun.set())
        except InterruptedRun as error:
            ended.append(error)

    with Workers() as workers:
        thread = threading.Thread(target=run)
        thread.start()
        assert begun.wait(60)
        workers.interrupt()
        thread.join(30)
        assert ended
        with pytest.raises(InterruptedRun, match="interrupted before it began"):
            _run(workers, "tell", tmp_path)
