"""Events folded into what the run screen shows."""

from __future__ import annotations

from edgepeft_tui.progress import Progress


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
