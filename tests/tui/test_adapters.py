"""Adapters that exist, in the wizard: one takes training's place, several are combined."""

from __future__ import annotations

from pathlib import Path

import yaml
from textual.pilot import Pilot
from textual.widgets import Input, Select

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.draft import Draft
from edgepeft_tui.screens.wizard import WizardScreen
from edgepeft_tui.widgets.choices import Choice
from edgepeft_tui.widgets.field_row import FieldRow
from tests.conftest import ModelMaker
from tests.stages import write_adapter
from tests.tiny import write_tiny_data
from tests.tui.drive import drive, opened, text_of, until, write


def _field(app: EdgepeftApp, key: str) -> FieldRow:
    return app.screen.query_one(f"#row-{key.replace('.', '--')}", FieldRow)


def test_several_adapters_are_named_weighed_and_combined(tiny_model: ModelMaker) -> None:
    model = tiny_model("llama")
    for name, seed in (("one", 1), ("two", 2)):
        write_adapter(model, Path(name).resolve(), seed=seed)
    write_tiny_data(Path("data"))
    draft = Draft(Path.cwd(), "mine", {"model": str(model), "data": {"test": "data/test.jsonl"}})

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        wizard = app.screen
        assert isinstance(wizard, WizardScreen)
        wizard.show_step("Method")
        await until(pilot, lambda: bool(wizard.query(Choice)))
        await opened(pilot)
        await pilot.press("right", "space")
        await until(pilot, lambda: not draft.trains)
        assert "( ) Train an adapter" in text_of(app)
        assert "(●) Use an existing adapter" in text_of(app)
        _field(app, "adapter").query_one(Input).focus()
        await write(pilot, "one")
        await until(pilot, lambda: draft.findings.planned)
        wizard.query_one("#add-adapter").focus()
        await pilot.press("enter")
        await until(pilot, lambda: bool(wizard.query("#row-adapter--1--path Input:focus")))
        await write(pilot, "tow")
        # What the command would say stands at the field it speaks of.
        await until(pilot, lambda: "adapter.1.path" in draft.errors())
        assert draft.errors()["adapter.1.path"].endswith("/tow: no such adapter folder")
        assert _field(app, "adapter.1.path").has_class("-wrong")
        await pilot.press("backspace", "backspace")
        await write(pilot, "wo")
        await until(pilot, lambda: draft.findings.planned)
        await pilot.press("tab", "tab")
        await until(pilot, lambda: "adapter.1.weight" in text_of(app))
        await write(pilot, "0.5")
        assert not wizard.query("#row-combine--density")
        _field(app, "combine.method").query_one(Select).value = "ties"
        await until(pilot, lambda: bool(wizard.query("#row-combine--density Input")))
        await until(pilot, lambda: _field(app, "combine.density").has_class("-wrong"))
        said = "ties needs the share of values"
        await until(pilot, lambda: said in " ".join(text_of(app).split()))
        _field(app, "combine.density").query_one(Input).focus()
        await write(pilot, "0.4")
        await until(pilot, lambda: draft.findings.planned)
        await pilot.press("ctrl+s")
        await until(pilot, Path("mine.yaml").is_file)
        assert yaml.safe_load(Path("mine.yaml").read_text()) == {
            "model": str(model),
            "data": {"test": "data/test.jsonl"},
            "adapter": ["one", {"path": "two", "weight": 0.5}],
            "combine": {"method": "ties", "density": 0.4},
        }
        _field(app, "combine.method").query_one(Select).value = "regmean"
        await until(pilot, lambda: bool(wizard.query("#row-adapter--1--rows Input")))
        await until(pilot, lambda: bool(wizard.query("#row-combine--rows Input")))
        labels = [str(row.query_one(".label").render()) for row in wizard.query(FieldRow)]
        assert [label.strip() for label in labels if "  " in label] == ["weight", "rows"] * 2
        await until(pilot, lambda: _field(app, "adapter.0.rows").has_class("-wrong"))
        _field(app, "adapter.0.rows").query_one(Input).focus()
        await write(pilot, "data/test.jsonl")
        _field(app, "combine.density").query_one(Input).value = ""
        _field(app, "adapter.1.rows").query_one(Input).focus()
        await write(pilot, "gone.jsonl")
        await until(pilot, lambda: _field(app, "adapter.1.rows").has_class("-wrong"))
        draft.put("combine.method", "ties")
        wizard.query_one("#drop-adapter").focus()
        await pilot.press("enter")
        await until(pilot, lambda: draft.get("adapter") == "one")
        await until(pilot, lambda: bool(wizard.query("#row-adapter Input")))
        assert draft.get("combine") is None

    drive(scenario, draft=draft, size=(100, 44))
