"""What is recorded for pictures has the form of what the commands print and a run holds today."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ModelMaker
from tests.tui.record import KEPT, observed, recorded, scrubbed, shape

AGAIN = "record it anew: python -m tests.tui.record, then EDGEPEFT_SNAPSHOTS=write pytest tests/tui"


def by_kind(events: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Events by what they tell; a progress says with each stage other things."""
    kinds: dict[str, list[Any]] = {}
    for event in events:
        kinds.setdefault(f"{event['event']} {event['stage']}", []).append(event)
    return kinds


@pytest.fixture(scope="module")
def today(tiny_run: Path, tiny_model: ModelMaker) -> dict[str, Any]:
    """What is said of the tiny run that the other tests look at."""
    return observed(tiny_run, tiny_model("llama"))


def test_everything_that_is_observed_is_recorded(today: dict[str, Any]) -> None:
    assert {path.stem for path in KEPT.glob("*.json")} == set(today), AGAIN


@pytest.mark.parametrize("name", sorted(path.stem for path in KEPT.glob("*.json")))
def test_a_recording_has_todays_form(today: dict[str, Any], name: str) -> None:
    now, kept = today[name], recorded(name)
    if name == "doctor":
        # Which libraries and processors there are is no matter of form.
        now = scrubbed(now, {})
    if name == "events":
        now, kept = by_kind(now), by_kind(kept)
    assert shape(kept) == shape(now), AGAIN


def test_a_form_is_names_and_types() -> None:
    assert shape({"a": 1, "b": [None, "x"]}) == shape({"a": 2.5, "b": ["y", None, None]})
    for other in ({"a": 1}, {"a": 1, "b": None}, {"a": "1", "b": []}, {"a": 1, "b": [], "c": 2}):
        assert shape(other) != shape({"a": 1, "b": []}), other
    assert shape([{"a": 1}, {"b": "x"}]) == shape([{"a": 2, "b": "y"}])
    assert shape([{"a": 1}, {"a": None}]) != shape([{"a": 1}])
