"""The layers of a run: from the report or from the rounding itself, walked by key and by mouse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from textual.pilot import Pilot

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.layers import LayerErrors, layers_of
from edgepeft_tui.screens.layers import LayersScreen
from edgepeft_tui.widgets.layer_strip import LayerStrip
from tests.tui.drive import drive, lines_of, picture, text_of, until
from tests.tui.painting import painted


@pytest.fixture
def small(tiny_run: Path, tmp_path: Path) -> Path:
    """The test's own copy of the run."""
    return Path(shutil.copytree(tiny_run / "runs/small", tmp_path / "runs/small"))


def _entry(run: Path) -> dict[str, str]:
    return {"target": "cpu-int4", "path": str(run / "bundles/cpu-int4")}


def test_a_bundle_that_was_not_measured_has_the_layers_of_its_rounding(small: Path) -> None:
    [measured] = layers_of(small, [_entry(small)])
    assert len(measured.errors) == 2
    assert measured.weights.startswith("gptq, int4")
    (small / "bundles/cpu-int4/fidelity.json").unlink()
    assert layers_of(small, [_entry(small)]) == [measured]
    # Neither bundle nor result: what is rounded so far, by the stage's own name.
    shutil.rmtree(small / "bundles")
    names = [layers.name for layers in layers_of(small)]
    assert names
    assert set(names) == {"int4"}
    shutil.rmtree(small / "stages")
    assert layers_of(small) == []


def test_layers_are_walked_by_key_and_picked_by_mouse() -> None:
    rounding = LayerErrors("t", (0.01, 0.04, 0.02, 0.08, 0.03, 0.05), "gptq")

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await app.screen.query_one("#body").mount(LayerStrip(rounding))
        strip = app.screen.query_one(LayerStrip)
        strip.focus()
        await pilot.pause()
        assert strip.chosen == 3
        shown = text_of(app)
        assert "layer 3: quantization error 8.0 %, the worst of 6" in shown
        line = next(line for line in shown.splitlines() if "error" in line)
        assert [cell for cell in line if cell in "▁▂▃▄▅▆▇█"][::4] == list("▁▄▂█▃▅")
        listed = [line.split()[2] for line in shown.splitlines() if "% █" in line]
        assert listed[0] in ("layer", "3")
        await pilot.press("down")
        assert strip.chosen == 5
        await pilot.press("up", "left")
        assert strip.chosen == 2
        await pilot.press("end")
        assert strip.chosen == 5
        await pilot.press("home", "left")
        assert strip.chosen == 0
        # The border takes a line and a cell, the padding another cell; a layer is four cells wide here.
        await pilot.click(strip, offset=(2 + 10 + 4 * 4, 2))
        assert strip.chosen == 4
        await pilot.click(strip, offset=(6, 1 + 6 + 1))
        assert strip.chosen == 5

    drive(scenario, size=(80, 40))


def test_more_layers_than_cells_show_the_worst_of_several() -> None:
    errors = [0.01] * 200
    errors[137] = 0.08

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await app.screen.query_one("#body").mount(LayerStrip(LayerErrors("t", tuple(errors))))
        await pilot.pause()
        line = next(line for line in text_of(app).splitlines() if "error" in line)
        cells = [cell for cell in line if cell in "▁▂▃▄▅▆▇█"]
        assert cells.count("█") == 1
        assert cells.count("▁") == len(cells) - 1

    drive(scenario, size=(80, 40))


def test_the_table_of_gates_leads_to_the_layers(small: Path) -> None:
    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"result:{small}")
        await until(pilot, lambda: bool(app.screen.query(LayerStrip)))
        await pilot.press("l")
        await until(pilot, lambda: isinstance(app.focused, LayerStrip))
        assert "% " in lines_of(picture(app))
        app.screen.query_one("#fidelity").focus()
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: isinstance(app.focused, LayerStrip))

    drive(scenario)


def test_a_run_that_was_stopped_after_rounding_shows_its_layers(small: Path) -> None:
    record = json.loads((small / "run.json").read_text())
    record |= {"state": "interrupted", "result": None}
    (small / "run.json").write_text(json.dumps(record))

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"run:{small}")
        await until(pilot, lambda: "l Layers" in text_of(app))
        await pilot.press("l")
        await until(pilot, lambda: isinstance(app.screen, LayersScreen))
        await until(pilot, lambda: "the worst of 2" in text_of(app))
        assert isinstance(app.focused, LayerStrip)

    drive(scenario, size=(100, 34))


ERRORS = (0.02, 0.06, 0.2)


@pytest.mark.parametrize(
    ("passed", "colours", "said"),
    [
        (True, ["success", "warning", "warning"], "no red: gates passed"),
        (None, ["success", "warning", "warning"], "no red: not measured"),
        (False, ["success", "warning", "error"], "over 15 %, a gate failed"),
    ],
)
def test_layers_are_coloured_by_bounds_and_red_only_where_a_gate_is_missed(
    passed: bool | None, colours: list[str], said: str
) -> None:
    rounding = LayerErrors("t", ERRORS, "gptq", passed)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await app.screen.query_one("#body").mount(LayerStrip(rounding))
        await pilot.pause()
        assert said in text_of(app)
        assert "█ 20.0 %" in text_of(app)
        assert "under 5 %" in text_of(app)
        rows = painted(app)
        strip = next(row for row in rows if "error" in "".join(cell.text for cell in row))
        inks = [cell.ink.hex for cell in strip if cell.text in "▁▂▃▄▅▆▇█"][::4]
        assert inks == [app.theme_variables[f"text-{name}"] for name in colours]
        red = app.theme_variables["text-error"]
        seen = {cell.ink.hex for row in rows for cell in row if cell.marked}
        assert (red in seen) == (passed is False)

    drive(scenario, size=(100, 40))


def test_equal_errors_are_no_ranking_of_colours() -> None:
    rounding = LayerErrors("t", (0.01, 0.011, 0.012), "gptq", passed=False)
    assert {rounding.colour(error) for error in rounding.errors} == {"$text-success"}


def test_the_gates_of_a_bundle_decide_over_its_layers(small: Path) -> None:
    for gates, passed in (("passed", True), (["it fell"], False), (None, None)):
        [layers] = layers_of(small, [{**_entry(small), "gates": gates}])
        assert layers.passed is passed
