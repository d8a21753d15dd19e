"""A build that was asked to stop is shown as stopping until its process has ended; asked again, it is killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from textual.pilot import Pilot

import edgepeft_tui.job
from edgepeft.runs.index import read_run
from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.job import Job
from edgepeft_tui.screens.run import RunScreen
from edgepeft_tui.widgets.dialogs import Question
from tests.command import write_recipe
from tests.conftest import ModelMaker
from tests.tiny import write_tiny_data
from tests.tui.drive import drive, text_of, told, until

RUN = Path("runs/long")


@pytest.fixture(autouse=True)
def _recipe(tmp_path: Path, tiny_model: ModelMaker) -> Iterator[None]:
    """A recipe of a training that would take minutes; no build of it is left behind."""
    training = {"max_steps": 4000, "batch_size": 4, "save_steps": 20, "eval_steps": 100}
    data = write_tiny_data(tmp_path)
    write_recipe(tmp_path / "long.yaml", tiny_model("llama"), data, training=training)
    yield
    pid = read_run(tmp_path / RUN).get("pid")
    if isinstance(pid, int) and psutil.pid_exists(pid) and pid != os.getpid():
        psutil.Process(pid).kill()


async def _training(app: EdgepeftApp, pilot: Pilot[None]) -> Job:
    """Start the build, wait until it trains, and hold its process so that it can't end."""
    job = app.jobs.start(["build", "long.yaml", "--out", str(RUN)], RUN, Path.cwd())
    app.open_run(RUN)
    await until(pilot, lambda: isinstance(app.screen, RunScreen))
    await until(pilot, lambda: "tok/s" in text_of(app), seconds=120)
    assert job.process is not None
    job.process.send_signal(signal.SIGSTOP)
    return job


def test_stopping_is_shown_everywhere_until_the_process_has_ended() -> None:
    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        job = await _training(app, pilot)
        assert "long  ›  running" in text_of(app)
        await pilot.press("s")
        await until(pilot, lambda: "long  ›  stopping" in text_of(app))
        said = "train finishes its step and saves a checkpoint"
        assert f"□ stopping: {said}" in text_of(app)
        await pilot.press("escape")
        await until(pilot, lambda: "□ Watch long" in text_of(app))
        assert f"stopping: {said}" in text_of(app)
        assert "□ long: stopping" in text_of(app).splitlines()[0]
        await pilot.press("r")
        await until(pilot, lambda: f"□ stopping: {said}" in text_of(app))
        await pilot.press("x")
        await until(pilot, lambda: "still running" in told(app))
        await pilot.press("escape")
        assert job.process is not None
        job.process.send_signal(signal.SIGCONT)
        await until(pilot, lambda: not job.active, seconds=120)
        assert read_run(RUN)["state"] == "interrupted"
        await until(pilot, lambda: told(app) == "long: stopped, can be resumed")
        await pilot.press("r")
        await until(pilot, lambda: "■ stopped, can be resumed" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "stopped, can be resumed: press r" in text_of(app))
        assert list(RUN.glob("scratch/train-*/checkpoints/checkpoint-*"))

    drive(scenario, size=(120, 40))


def test_a_second_stop_offers_to_kill_and_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edgepeft_tui.job, "KILL_SECONDS", 0.5)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        job = await _training(app, pilot)
        assert job.process is not None
        started = psutil.Process(job.process.pid).children(recursive=True)
        assert started
        await pilot.press("s", "s")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await until(pilot, lambda: "Kill long now?" in text_of(app))
        await pilot.press("n")
        await pilot.pause(1)
        assert job.state == "stopping"
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await pilot.press("y")
        # It can't hear a signal, so all its processes are ended.
        await until(pilot, lambda: not job.active)
        assert job.state == "killed"
        await until(pilot, lambda: "killed, can be resumed: press r" in text_of(app))
        _, alive = psutil.wait_procs(started, timeout=20)
        assert not alive

    drive(scenario, size=(120, 40))


def test_a_stop_that_was_asked_for_elsewhere_is_seen_in_the_events() -> None:
    RUN.mkdir(parents=True)
    record = {"name": "long", "state": "running", "pid": os.getpid(), "started": "2026-01-01"}
    (RUN / "run.json").write_text(json.dumps(record))
    events = [
        {"event": "planned", "stage": "build", "stages": ["base", "merge"]},
        {"event": "started", "stage": "merge"},
        {"event": "message", "stage": "merge", "text": "stopping"},
    ]
    (RUN / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "stopping: waits for merge to end" in text_of(app))
        # The run goes on elsewhere: its events begin anew.
        (RUN / "events.jsonl").unlink()
        (RUN / "events.jsonl").write_text(json.dumps(events[1]) + "\n")
        job = app.jobs.watch(RUN)
        await until(pilot, lambda: job.state == "running")

    drive(scenario, size=(120, 40))
