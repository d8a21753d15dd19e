"""What a stage says: enough to follow it by, not so much that a pipe is flooded."""

from __future__ import annotations

import time

import pytest

from edgepeft.events import Event, Events, discard


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set; it starts well after zero, as a machine's clock does."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_every_event_names_its_stage() -> None:
    seen: list[Event] = []
    events = Events("merge", seen.append)
    events.emit("started", path="x")
    events.message("one thing")
    events.warning("another")
    assert seen == [
        {"event": "started", "stage": "merge", "path": "x"},
        {"event": "message", "stage": "merge", "text": "one thing"},
        {"event": "warning", "stage": "merge", "text": "another"},
    ]


def test_progress_says_how_far_how_long_and_what_was_measured(clock: list[float]) -> None:
    seen: list[Event] = []
    events = Events("train", seen.append)
    clock[0] += 2.5
    events.progress(3, 10, loss=0.5)
    assert seen == [
        {
            "event": "progress",
            "stage": "train",
            "step": 3,
            "total": 10,
            "seconds": 2.5,
            "metrics": {"loss": 0.5},
        }
    ]


def test_progress_is_thinned_out_but_its_end_is_always_told(clock: list[float]) -> None:
    seen: list[Event] = []
    events = Events("merge", seen.append, min_interval=0.1)
    for step in range(1, 101):
        clock[0] += 0.011
        events.progress(step, 100)
    steps = [event["step"] for event in seen]
    assert steps == [*range(1, 100, 10), 100]


def test_messages_are_never_thinned_out(clock: list[float]) -> None:
    seen: list[Event] = []
    events = Events("merge", seen.append, min_interval=1e9)
    for number in range(20):
        events.message(str(number))
    assert len(seen) == 20


def test_step_zero_starts_the_clock_of_the_loop(clock: list[float]) -> None:
    seen: list[Event] = []
    events = Events("train", seen.append, min_interval=0.0)
    clock[0] += 60
    events.progress(0, 5)
    clock[0] += 1
    events.progress(1, 5)
    assert [event["seconds"] for event in seen] == [0.0, 1.0]


@pytest.mark.parametrize(("total", "told"), [(None, 4), (9, 9)])
def test_tracking_yields_everything_and_counts_what_is_done(total: int | None, told: int) -> None:
    seen: list[Event] = []
    events = Events("data", seen.append, min_interval=0.0)
    taken = []
    for item in events.track(["a", "b", "c", "d"], total, what="rows"):
        taken.append((item, [e["step"] for e in seen if e["step"]]))
    # A step is told when it is done, not when it is begun.
    assert taken == [("a", []), ("b", [1]), ("c", [1, 2]), ("d", [1, 2, 3])]
    last = seen[-1]
    assert (last["step"], last["total"], last["metrics"]) == (4, told, {"phase": "rows"})


def test_tracking_what_has_no_length_has_no_total() -> None:
    seen: list[Event] = []
    assert list(Events("data", seen.append, min_interval=0.0).track(iter("ab"))) == ["a", "b"]
    assert [event["total"] for event in seen if event["step"]] == [None, None]


def test_nobody_need_listen() -> None:
    Events("merge").message("hello")
    discard({"event": "message"})
