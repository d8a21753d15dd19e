"""Events folded into what the run screen shows."""

from __future__ import annotations

import json
from pathlib import Path

from textual.pilot import Pilot
from textual_plot import PlotWidget

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.past_training import past_training
from edgepeft_tui.progress import Progress
from edgepeft_tui.widgets.curve import Curve
from tests.tui.drive import drive
from tests.tui.painting import painted


def _fed(*events: dict[str, object]) -> Progress:
    progress = Progress()
    for number, event in enumerate(events):
        progress.feed({"time": 100.0 + number, **event})
    return progress


def test_stages_wait_run_and_end() -> None:
    progress = _fed(
        {"event": "planned", "stage": "build", "stages": ["base", "train", "merge"]},
        {"event": "reused", "stage": "base"},
        {"event": "started", "stage": "train"},
        {"event": "progress", "stage": "train", "step": 5, "total": 20, "seconds": 10.0},
    )
    assert [stage.state for stage in progress.stages.values()] == ["reused", "running", "waiting"]
    running = progress.running()
    assert running is not None
    assert running.left() == 30.0
    progress.feed({"event": "finished", "stage": "train", "seconds": 41.0, "time": 150.0})
    assert progress.stages["train"].state == "done"
    assert progress.running() is None
    assert progress.began == 100.0


def test_steps_that_are_trained_again_replace_their_points() -> None:
    def step(number: int, loss: float) -> dict[str, object]:
        metrics = {"loss": loss}
        return {"event": "progress", "stage": "train", "step": number, "metrics": metrics}

    progress = _fed(step(1, 3.0), step(2, 2.0), step(3, 1.5), step(2, 2.1), step(3, 1.4))
    assert progress.curves["loss"] == [(1, 3.0), (2, 2.1), (3, 1.4)]


def test_what_was_running_when_the_process_went_is_stopped() -> None:
    progress = _fed({"event": "started", "stage": "train"})
    progress.settle("killed")
    assert progress.stages["train"].state == "stopped"
    progress = _fed({"event": "failed", "stage": "merge", "error": "no"})
    progress.settle("failed")
    assert progress.stages["merge"].state == "failed"


def test_the_planned_steps_are_those_of_the_training() -> None:
    progress = _fed(
        {"event": "progress", "stage": "train", "step": 5, "total": 80, "metrics": {"loss": 2.0}},
        {"event": "progress", "stage": "quantize-int4", "step": 1, "total": 30},
    )
    assert progress.planned_steps == 80
    progress.take_up({"loss": [(1, 3.0), (5, 9.0)]}, 60)
    assert progress.planned_steps == 80
    assert progress.curves["loss"] == [(1, 3.0), (5, 2.0)]


def test_a_checkpoint_says_how_many_steps_were_planned(tmp_path: Path) -> None:
    state = tmp_path / "scratch/train-abc/checkpoints/checkpoint-4/trainer_state.json"
    state.parent.mkdir(parents=True)
    history = [{"step": 2, "loss": 1.5}, {"step": 4, "eval_loss": 1.0}]
    state.write_text(json.dumps({"max_steps": 40, "log_history": history}))
    assert past_training(tmp_path) == ({"loss": [(2, 1.5)], "eval_loss": [(4, 1.0)]}, 40)


def test_the_curve_goes_to_the_planned_steps_and_not_to_the_last_point() -> None:
    points = {"loss": [(1, 3.0), (10, 1.0)]}

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await app.screen.query_one("#body").mount(Curve())
        curve = app.screen.query_one(Curve)
        plot = curve.query_one(PlotWidget)
        for planned, right in ((40, 40), (None, 10), (5, 10)):
            curve.draw(points, planned)
            assert plot._x_max == right
        curve.draw(points, 40)
        await pilot.pause(0.3)
        # Three quarters of the work lie ahead, and are empty.
        drawn = [
            x
            for row in painted(app)
            if "loss" not in "".join(cell.text for cell in row)  # as the legend says
            for x, cell in enumerate(row)
            if "\u2800" < cell.text < "\u2900"
        ]
        assert drawn
        assert max(drawn) < 0.4 * app.size.width

    drive(scenario, size=(100, 40))
