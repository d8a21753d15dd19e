"""Two runs side by side: which figure is the better one, and what is drawn and said of both."""

from __future__ import annotations

from typing import Any

import pytest
from textual.content import Content
from textual.pilot import Pilot

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.run_comparison import compared, compared_markup
from edgepeft_tui.screens.versus import VersusScreen
from tests.tui.drive import drive, text_of, until
from tests.tui.painting import painted
from tests.tui.still import hold_still


def _run(target: str = "cpu-int4", nbytes: int = 10_000_000, **facts: Any) -> dict[str, Any]:
    bundle = {
        "target": target,
        "path": "b",
        "bytes": nbytes,
        "gates": "passed",
        "fidelity": {"task": "text-generation", **facts} if facts else None,
    }
    return {"name": "r", "path": "r", "result": {"bundles": [bundle]}}


def _better(one: dict[str, Any], other: dict[str, Any]) -> dict[str, int | None]:
    return {figure.name: figure.better for figure in compared(one, other)["cpu-int4"]}


def test_less_is_better_of_sizes_and_divergences_and_more_of_everything_else() -> None:
    one = _run(nbytes=10, exact_match=0.9, task_kl=0.2, generic_kl=0.1, tokens_per_second=9.0)
    other = _run(nbytes=20, exact_match=0.8, task_kl=0.1, generic_kl=0.1, recovery=0.5)
    assert _better(one, other) == {
        "size": 0,
        "exact match": 0,
        "task KL": 1,
        "generic KL": None,
        "recovery": None,
        "tok/s": None,
        "gates": None,
    }
    other["result"]["bundles"][0]["gates"] = ["it fell"]
    assert _better(one, other)["gates"] == 0


def test_only_what_was_measured_in_the_same_way_is_compared() -> None:
    encoder = _run(accuracy=0.5)
    encoder["result"]["bundles"][0]["fidelity"]["task"] = "text-classification"
    assert set(_better(_run(exact_match=0.5), encoder)) == {"size"}
    assert set(_better(_run(exact_match=0.5), _run())) == {"size"}
    assert not compared(_run("cpu-int8"), _run("cpu-int4"))
    assert not compared({"state": "failed"}, _run())


@pytest.mark.parametrize("room", [34, 60, 120])
def test_columns_have_the_room_they_are_given_and_long_names_are_cut(room: int) -> None:
    found = compared(_run(exact_match=0.9, task_kl=0.2), _run(exact_match=0.8, task_kl=0.1))
    names = ("a-run-with-quite-a-long-name", "[another] run with quite a long name")
    lines = Content.from_markup(compared_markup(names, found, room)).plain.splitlines()
    assert max(map(len, lines)) <= room
    assert lines[0].count("…") == (0 if room > 90 else 2)
    assert " " in lines[0].strip()
    [exact] = [line for line in lines if line.startswith("exact match")]
    assert exact.split()[2:] == ["✓", "0.900", "0.800"]


@pytest.mark.parametrize("size", [(40, 24), (80, 24), (160, 50)])
def test_two_marked_runs_are_put_side_by_side(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_still(monkeypatch)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await pilot.press("r")
        await until(pilot, lambda: "second" in text_of(app))
        await pilot.press("space", "down", "space", "c")
        await until(pilot, lambda: isinstance(app.screen, VersusScreen))
        await until(pilot, lambda: "⠒ second · ▀ first" in text_of(app))
        variables = app.theme_variables
        curves = {
            cell.ink.hex.lower()
            for row in painted(app)[1:11]
            for cell in row
            if "\u2800" < cell.text < "\u2900" or cell.text in "▀▄▌▐▖▗▘▝▚▞▙▛▜▟"
        }
        assert curves == {variables["bar"].lower(), variables["text-accent"].lower()}
        seen = text_of(app)
        await pilot.press("end")
        await until(pilot, lambda: "method.rank" in text_of(app))
        seen += text_of(app)
        for words in ("16", "8", "✓ the better one"):
            assert words in seen
        await pilot.press("escape")
        await until(pilot, lambda: "2 of 2" in text_of(app))

    drive(scenario, size=size)
