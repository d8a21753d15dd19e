"""Trackers that are missing, that nobody is logged in to, or that fail in the middle."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from transformers import TrainerCallback

from edgepeft.config.training_section import Training
from edgepeft.errors import EdgepeftError, MissingError
from edgepeft.events import Event, Events
from edgepeft.tracking.callback import TrackingCallback
from edgepeft.tracking.runs import OpenRuns, open_runs, read_runs
from edgepeft.tracking.tracker import TRACKERS, Tracker, open_tracker
from tests.conftest import ModelMaker
from tests.project import write_project


def test_a_recipe_may_name_the_trackers_that_there_are() -> None:
    (named,) = get_args(Training.model_fields["report_to"].annotation)
    assert get_args(named) == TRACKERS
    assert all(open_tracker(name).MEND for name in TRACKERS)


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_read(
    tiny_model: ModelMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name == "mlflow" else found(name, package)

    project = write_project(tiny_model("llama"), tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(MissingError) as caught:
        project.plan("training.report_to=[tensorboard, mlflow]")
    assert str(caught.value) == (
        "training.report_to: mlflow is not installed: pip install 'edgepeft[mlflow]'"
    )


def test_whom_a_training_reports_to_is_no_part_of_what_it_makes(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    project = write_project(tiny_model("llama"), tmp_path)
    silent = project.keys()
    assert project.keys("training.report_to=[tensorboard]", out="other") == silent


def test_nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(EdgepeftError, match=r"^training\.report_to: wandb: no run.*`wandb login`"),
        open_runs(["wandb"], "words", tmp_path / "tracking", Events("train"), anew=True),
    ):
        pass


def test_a_training_that_goes_on_goes_on_in_its_run(tmp_path: Path) -> None:
    events = Events("train")
    with open_runs(["tensorboard"], "words", tmp_path, events, anew=True) as runs:
        runs.each(lambda tracker: tracker.log({"loss": 1.0}), "logging")
    first = read_runs(tmp_path)
    with open_runs(["tensorboard"], "words", tmp_path, events, anew=False):
        pass
    assert read_runs(tmp_path) == first
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    # One that begins anew leaves nothing of the other.
    with open_runs(["tensorboard"], "words", tmp_path, events, anew=True):
        pass
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


class _Lost(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    def on_log(self, *arguments: Any, **more: Any) -> None:
        raise ConnectionError("the network is gone")


class _Unreachable:
    """A tracker whose service is lost once a run is open."""

    MEND = "wait"

    def begin(self, name: str, folder: Path, known: str | None) -> str:
        return "1"

    def place(self) -> str:
        return "somewhere"

    def callback(self) -> Any:
        return _Lost()

    def log(self, figures: Mapping[str, float]) -> None:
        raise ConnectionError("the network is gone")

    def end(self, *, whole: bool) -> None:
        pass


def test_a_tracker_that_fails_is_a_warning_said_once() -> None:
    said: list[Event] = []
    lost: Tracker = _Unreachable()
    runs = OpenRuns({"lost": lost}, Events("train", said.append))
    callback = TrackingCallback(runs)
    for _ in range(3):
        callback.on_log(None, None, None, logs={"loss": 1.0})
    assert [event["text"] for event in said] == [
        "lost: gets no more of the training (the network is gone)"
    ]
    assert runs.each(lambda tracker: tracker.log({}), "logging") == []
    again = OpenRuns({"lost": lost}, Events("report", said.append))
    assert again.each(lambda tracker: tracker.log({}), "logging") == []
    assert said[-1]["text"] == "lost: logging failed (the network is gone); it gets no more"
