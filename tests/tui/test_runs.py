"""The history's actions by key: what is marked, compared, edited, built again, tried and deleted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from textual.pilot import Pilot
from textual.widgets import DataTable, Input

from edgepeft.runs.index import read_run
from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.screens.run import RunScreen
from edgepeft_tui.screens.runs import RunsScreen
from edgepeft_tui.screens.versus import VersusScreen
from edgepeft_tui.screens.wizard import WizardScreen
from edgepeft_tui.widgets.dialogs import Question
from tests.tui.drive import drive, text_of, told, until, write


@pytest.fixture
def here(tiny_run: Path, tmp_path: Path) -> Path:
    """The test's own copy of the run, and a second that was never begun with another rank."""
    shutil.copytree(tiny_run / "runs", tmp_path / "runs")
    run = tmp_path / "runs/small"
    record = json.loads((run / "run.json").read_text())
    other = tmp_path / "runs/other"
    other.mkdir()
    (other / "run.json").write_text(
        json.dumps(
            {**record, "name": "other", "state": "failed", "started": "2020", "result": None}
        )
    )
    raw = yaml.safe_load((run / "recipe.resolved.yaml").read_text())
    raw["method"]["rank"] = 3
    (other / "recipe.resolved.yaml").write_text(yaml.safe_dump(raw))
    return tmp_path


def _runs(app: EdgepeftApp) -> RunsScreen:
    assert isinstance(app.screen, RunsScreen)
    return app.screen


async def _open(app: EdgepeftApp, pilot: Pilot[None]) -> RunsScreen:
    await pilot.press("r")
    await until(pilot, lambda: isinstance(app.screen, RunsScreen))
    await until(pilot, lambda: _runs(app).query_one(DataTable).row_count == 2)
    return _runs(app)


def test_runs_are_filtered_sorted_marked_and_compared(here: Path) -> None:
    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        runs = await _open(app, pilot)
        assert runs.chosen is not None
        assert runs.chosen["name"] == "small"
        await pilot.press("o")
        await until(pilot, lambda: "by run" in text_of(app))
        assert text_of(app).index("other") < text_of(app).index("small")
        await pilot.press("slash")
        await write(pilot, "failed")
        await until(pilot, lambda: "1 of 2" in text_of(app))
        runs.query_one(Input).value = ""
        await pilot.press("enter")
        await until(pilot, lambda: "2 of 2" in text_of(app))
        await pilot.press("c")
        await until(pilot, lambda: told(app) == "Mark two runs with Space first.")
        await pilot.press("space", "down", "space")
        await until(pilot, lambda: text_of(app).count("●") == 2)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, VersusScreen))
        await until(pilot, lambda: "method.rank" in text_of(app))
        assert "model" not in text_of(app).split("method.rank")[1]
        assert "They have built no bundle for the same target." in text_of(app)
        # One of the two has trained, and its loss is drawn.
        await until(pilot, lambda: "Loss · ⠒ small" in text_of(app) or "▀ small" in text_of(app))

    drive(scenario, size=(120, 40))


def test_a_run_is_edited_and_built_again_from_what_is_finished(here: Path) -> None:
    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await _open(app, pilot)
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, WizardScreen))
        wizard = app.screen
        assert isinstance(wizard, WizardScreen)
        assert wizard.draft.get("training.max_steps") == 20
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        before = read_run(Path("runs/small"))["started"]
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        job = app.jobs.watch(Path("runs/small"))
        await until(pilot, lambda: not job.active, seconds=120)
        job.refresh()
        assert job.state == "done", job.error()
        assert read_run(Path("runs/small"))["started"] > before
        states = {name: stage.state for name, stage in job.progress.stages.items()}
        assert states["train"] == "reused"
        await until(pilot, lambda: "= train" in text_of(app))

    drive(scenario, size=(120, 40))


def test_a_run_is_deleted_only_after_a_yes_and_never_while_at_work(here: Path) -> None:
    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        runs = await _open(app, pilot)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Question))
        assert "runs/small" in text_of(app)
        assert app.focused is not None
        assert app.focused.id == "no"
        await pilot.press("n")
        assert Path("runs/small").is_dir()
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await pilot.press("y")
        await until(pilot, lambda: not Path("runs/small").exists())
        await until(pilot, lambda: runs.query_one(DataTable).row_count == 1)
        record = json.loads(Path("runs/other/run.json").read_text())
        Path("runs/other/run.json").write_text(json.dumps({**record, "state": "running", "pid": 1}))
        runs.read()
        await pilot.press("x")
        await until(pilot, lambda: told(app) == "This run is still running. Stop it first.")
        assert Path("runs/other").is_dir()

    drive(scenario, size=(120, 40))
