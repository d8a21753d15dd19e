"""A build as it happens: what is still to come, gauges of the machine, a smoothed curve, a log that refolds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
from textual.events import Resize
from textual.pilot import Pilot
from textual.screen import Screen

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.gauges import Gauge, gauges_line, gauges_markup, read_gauges
from edgepeft_tui.job_words import stage_estimates
from edgepeft_tui.progress import smoothed
from edgepeft_tui.widgets.build_log import BuildLog, Entry
from tests.tui.drive import drive, text_of, until
from tests.tui.painting import painted
from tests.tui.test_damaged import OTHERS

RUN = Path("runs/small")
SAID = "a long line of many words that no narrow screen has room for, and that ends in the word end"


def _at_work(*events: Mapping[str, object], copied: Path | None = None) -> None:
    """A run that this process seems to be building."""
    if copied is not None:
        shutil.copytree(copied, RUN)
    RUN.mkdir(parents=True, exist_ok=True)
    record = {"name": "small", "state": "running", "pid": os.getpid(), "started": "2026-01-01"}
    (RUN / "run.json").write_text(json.dumps(record))
    lines = [json.dumps({"time": 100.0 + n, **event}) for n, event in enumerate(events)]
    (RUN / "events.jsonl").write_text("\n".join(lines) + "\n")


def test_a_smoothed_curve_follows_and_is_calmer_than_what_it_smooths() -> None:
    points = [(step, 10.0 - step / 10 + (step % 2)) for step in range(60)]
    calm = smoothed(points)
    assert [step for step, _ in calm] == [step for step, _ in points]
    assert calm[0] == points[0]

    def jumps(curve: list[tuple[int, float]]) -> float:
        return sum(abs(b[1] - a[1]) for a, b in pairwise(curve))

    assert jumps(calm) < 0.5 * jumps(points)
    assert calm[-1][1] == pytest.approx(points[-1][1], abs=1.0)
    assert smoothed([]) == []


def test_raw_losses_are_dots_behind_the_smoothed_line() -> None:
    steps = [
        {
            "event": "progress",
            "stage": "train",
            "step": step,
            "total": 60,
            "metrics": {"loss": 3.0 - step / 30 + (step % 2)},
        }
        for step in range(1, 40)
    ]
    _at_work({"event": "planned", "stages": ["train"]}, *steps)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"run:{RUN}")
        await until(pilot, lambda: "⠁" in text_of(app) or "⡀" in text_of(app))
        inks = {
            cell.ink.hex for row in painted(app) for cell in row if "\u2800" < cell.text < "\u2900"
        }
        assert inks == {app.theme_variables["bar"].upper(), app.theme_variables["thumb"].upper()}

    drive(scenario, size=(120, 40))


def test_stages_that_have_not_run_show_their_estimate(tiny_run: Path) -> None:
    names = [*("base", "train", "merge", "quantize-int4", "export-cpu-int4"), "verify-cpu-int4"]
    _at_work(
        {"event": "planned", "stages": names},
        {"event": "started", "stage": "base"},
        copied=tiny_run / "runs/small",
    )
    # What is finished is reused; the rest is estimated.
    for stage in RUN.glob("stages/verify-*"):
        shutil.rmtree(stage)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"run:{RUN}")
        await until(pilot, lambda: "~ " in text_of(app))
        shown = {
            line.split()[2]: line for line in text_of(app).splitlines() if line.startswith("│ · ")
        }
        assert "reused" in shown["train"]
        assert "~ " in shown["verify-cpu-int4"]

    drive(scenario, size=(120, 40))


def test_estimates_of_any_form_are_shown_or_left_out() -> None:
    sound = {"stage": "train", "seconds": 75, "reused": False}
    assert stage_estimates({"stages": [sound]}) == {"train": "~ 1 min 15 s"}
    assert stage_estimates({"stages": [{**sound, "reused": True}]}) == {"train": "reused"}
    for other in OTHERS:
        for key in sound:
            assert stage_estimates({"stages": [{**sound, key: other}, other]}) is not None
        assert stage_estimates({"stages": other}) == {}
        assert stage_estimates(other) == {}


@pytest.mark.parametrize(("size", "wanted"), [((120, 40), "━"), ((80, 24), "cpu ")])
def test_how_busy_the_machine_is_stands_there_while_a_build_is_at_work(
    size: tuple[int, int], wanted: str
) -> None:
    _at_work({"event": "planned", "stages": ["base"]}, {"event": "started", "stage": "base"})

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"run:{RUN}")
        await until(pilot, lambda: all(said in text_of(app) for said in ("memory", "cpu", wanted)))
        record = json.loads((RUN / "run.json").read_text())
        (RUN / "run.json").write_text(json.dumps({**record, "state": "interrupted"}))
        await until(pilot, lambda: "cpu" not in text_of(app))

    drive(scenario, size=size)


def test_gauges_tell_a_gpu_by_what_the_drivers_tool_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho '34 %, 512 MiB, 2048 MiB'\necho '[N/A], 0 MiB, 2048 MiB'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    found = {gauge.name: gauge for gauge in read_gauges()}
    assert set(found) == {"cpu", "memory", "gpu 0", "gpu 0 memory", "gpu 1 memory"}
    assert found["gpu 0"].share == 0.34
    assert found["gpu 0 memory"].share == 0.25
    assert 0 < found["memory"].share < 1


def test_gauges_have_the_room_they_are_given() -> None:
    from textual.content import Content

    gauges = [Gauge("cpu", 0.5), Gauge("memory", 1.2, "12.00 GB of 10.00 GB")]
    for room in (30, 44, 60):
        lines = Content.from_markup(gauges_markup(gauges, room)).plain.splitlines()
        assert max(map(len, lines)) <= room
        assert ("of 10.00 GB" in lines[1]) == (room > 42)
        assert "━" * 4 in lines[1]
    assert gauges_line(gauges) == "cpu 50 %  memory 120 %"


def test_the_log_is_folded_anew_where_the_width_is_another() -> None:
    _at_work(
        {"event": "planned", "stages": ["base"]},
        *({"event": "message", "stage": "base", "text": f"{n} {SAID}"} for n in range(40)),
    )

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"run:{RUN}")
        await until(pilot, lambda: f"39 {SAID}" in text_of(app))
        log = app.screen.query_one(BuildLog)
        await pilot.resize_terminal(50, 24)
        await until(pilot, lambda: len(log.lines) > 80)
        assert all(line.cell_length <= log.content_size.width for line in log.lines)
        # The latest is still seen, to its end.
        assert "the word end" in text_of(app)
        await until(pilot, lambda: log.is_vertical_scroll_end)
        await pilot.pause(0.2)
        log.scroll_to(y=20, animate=False)
        await pilot.pause()
        await pilot.resize_terminal(160, 24)
        await until(pilot, lambda: len(log.lines) == 40)
        await until(pilot, lambda: log.scroll_y < log.max_scroll_y)
        assert f"39 {SAID}" not in text_of(app)
        # Nor does what comes now take a reader away from there.
        place = log.scroll_y
        event = {"event": "message", "stage": "base", "text": "the latest", "time": 200.0}
        with (RUN / "events.jsonl").open("a") as stream:
            stream.write(json.dumps(event) + "\n")
        await until(pilot, lambda: len(log.lines) == 41)
        await pilot.pause(0.3)
        assert log.scroll_y == place
        log.scroll_end(animate=False)
        await until(pilot, lambda: "the latest" in text_of(app))

    drive(scenario, size=(160, 24))


class _Busy(BuildLog):
    """A log that is shown something before it hears of its width, as where there is much to do."""

    entries: ClassVar[list[Entry]] = [(100.0 + n, "base", f"{n} {SAID}") for n in range(40)]

    def on_resize(self, event: Resize) -> None:
        if self.lines:
            self.entries.append((200.0, "base", f"more {SAID}"))
            self.show(self.entries)


def test_what_comes_while_a_width_changes_does_not_leave_the_rest_as_it_was() -> None:
    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        log = _Busy()
        await app.push_screen(Screen())
        await app.screen.mount(log)
        log.show(log.entries)
        await until(pilot, lambda: len(log.lines) == 40)
        await pilot.resize_terminal(50, 24)
        await until(pilot, lambda: len(log.entries) == 41 and len(log.lines) > 80)
        assert all(line.cell_length <= log.content_size.width for line in log.lines)

    drive(scenario, size=(160, 24))


def test_a_log_is_filtered_and_takes_new_lines_at_its_end() -> None:
    _at_work(
        {"event": "planned", "stages": ["base"]},
        {"event": "message", "stage": "base", "text": "an apple"},
        {"event": "message", "stage": "base", "text": "a pear"},
    )

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"run:{RUN}")
        await until(pilot, lambda: "a pear" in text_of(app))
        await pilot.press("slash", "a", "p", "p", "enter")
        await until(pilot, lambda: "a pear" not in text_of(app))
        with (RUN / "events.jsonl").open("a") as stream:
            for text in ("another apple", "another pear"):
                event = {"event": "message", "stage": "base", "text": text, "time": 200.0}
                stream.write(json.dumps(event) + "\n")
        await until(pilot, lambda: "another apple" in text_of(app))
        assert "pear" not in text_of(app)

    drive(scenario, size=(100, 30))
