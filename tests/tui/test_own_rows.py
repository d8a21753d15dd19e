"""A person comes with one file of rows, whose columns have names of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from textual.pilot import Pilot
from textual.widgets import Button, Input, Select

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.draft import Draft
from edgepeft_tui.screens.wizard import WizardScreen
from edgepeft_tui.step_marks import marks_of
from edgepeft_tui.widgets.field_row import NOT_SAID, FieldRow
from tests.conftest import ModelMaker
from tests.tui.drive import drive, opened, text_of, told, until, write

Keys = Pilot[None]
INTENTS = ("lost card", "balance", "transfer")


def _rows(rows: int = 120, header: str = "Utterance,Intent,Agent") -> None:
    lines = [
        f"Question number {n} of a customer?,{INTENTS[n % 3]},someone {n}" for n in range(rows)
    ]
    Path("support.csv").write_text("\n".join([header, *lines]) + "\n")


def _draft(model: Path, **data: object) -> Draft:
    raw = {"model": str(model), "targets": ["cpu-int4"], **({"data": data} if data else {})}
    return Draft(Path.cwd(), "mine", raw)


def _wizard(app: EdgepeftApp) -> WizardScreen:
    assert isinstance(app.screen, WizardScreen)
    return app.screen


def _select(app: EdgepeftApp, ours: str) -> Select[str]:
    return app.screen.query_one(f"#row-data--columns--{ours} Select", Select)


def _offered(app: EdgepeftApp) -> str:
    """What the button that holds rows out says, empty where it is not shown."""
    buttons = app.screen.query("#hold-out-some").results(Button)
    return next((str(one.label) for one in buttons if one.is_on_screen), "")


def test_a_file_of_rows_becomes_a_recipe_without_a_key_of_it_being_known(
    tiny_model: ModelMaker,
) -> None:
    _rows()
    model = tiny_model("llama")
    draft = _draft(model)

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        wizard = _wizard(app)
        wizard.show_step("Data")
        await until(pilot, lambda: bool(wizard.query("#row-data--train Input:focus")))
        await write(pilot, "support.csv")
        await until(pilot, lambda: "Utterance is the prompt, Intent is the completion" in told(app))
        await until(pilot, lambda: _offered(app) == "Hold out 10 % of the 120 rows")
        await until(pilot, lambda: "»lost card<|im_end|>«" in text_of(app))
        assert marks_of(draft)["Data"].state in ("open", "invalid")
        await opened(pilot)
        await pilot.press("tab", "tab", "tab", "tab")
        assert app.focused is not None
        assert app.focused.id == "hold-out-some"
        await pilot.press("enter")
        await until(pilot, lambda: "12 of these rows, held out" in text_of(app))
        assert _offered(app) == ""
        await until(pilot, lambda: draft.findings.planned)
        assert draft.get("data.test") == "10%"
        assert marks_of(draft)["Data"].state in ("done", "warning")
        await pilot.press("ctrl+s")
        await until(pilot, Path("mine.yaml").is_file)
        assert yaml.safe_load(Path("mine.yaml").read_text())["data"] == {
            "train": "support.csv",
            "test": "10%",
            "columns": {"prompt": "Utterance", "completion": "Intent"},
        }

    drive(scenario, draft=draft, size=(120, 60))


def test_another_column_is_chosen_among_those_of_the_file(tiny_model: ModelMaker) -> None:
    _rows()
    draft = _draft(tiny_model("llama"), train="support.csv")

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        _wizard(app).show_step("Data")
        await until(pilot, lambda: "»lost card<|im_end|>«" in text_of(app))
        await opened(pilot)
        assert _select(app, "completion").value == "Intent"
        _select(app, "completion").focus()
        await pilot.press("enter", "down", "enter")
        await until(pilot, lambda: "»someone 0<|im_end|>«" in text_of(app))
        assert draft.get("data.columns") == {"prompt": "Utterance", "completion": "Agent"}
        # What is taken back stays so, and what is missing is said.
        _select(app, "completion").value = NOT_SAID
        _select(app, "prompt").value = NOT_SAID
        await until(pilot, lambda: "match no known layout" in text_of(app))
        await pilot.pause(1.0)
        assert draft.get("data.columns") is None
        assert "match no known layout" in draft.errors()["data.columns"]
        _select(app, "prompt").value = "Agent"
        _select(app, "completion").value = "Intent"
        await until(pilot, lambda: "»lost card<|im_end|>«" in text_of(app))
        assert list(draft.get("data.columns").values()) == ["Agent", "Intent"]

    drive(scenario, draft=draft, size=(120, 60))


def test_another_file_gets_a_guess_of_its_own(tiny_model: ModelMaker) -> None:
    _rows()
    rows = [f'{{"question": "What is {n}?", "reply": "a number"}}' for n in range(120)]
    Path("other.jsonl").write_text("\n".join(rows))
    rows = [f'{{"prompt": "What is {n}?", "completion": "no number"}}' for n in range(120)]
    Path("ours.jsonl").write_text("\n".join(rows))
    draft = _draft(tiny_model("llama"), train="support.csv")

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        wizard = _wizard(app)
        wizard.show_step("Data")
        await until(pilot, lambda: "»lost card<|im_end|>«" in text_of(app))
        field = wizard.query_one("#row-data--train Input", Input)
        field.value = "other.jsonl"
        await until(pilot, lambda: "»a number<|im_end|>«" in text_of(app))
        assert draft.get("data.columns") == {"prompt": "question", "completion": "reply"}
        field.value = "ours.jsonl"
        await until(pilot, lambda: "»no number<|im_end|>«" in text_of(app))
        assert draft.get("data.columns") is None
        await opened(pilot)
        assert not wizard.query("#columns Select")
        # What somebody has said is not guessed away.
        draft.put("data.columns", {"prompt": "nothing"})
        wizard.changed()
        field.value = "other.jsonl"
        await until(pilot, lambda: "no column 'nothing'" in text_of(app))
        assert draft.get("data.columns") == {"prompt": "nothing"}
        await opened(pilot)
        assert _select(app, "prompt").value == "nothing"

    drive(scenario, draft=draft, size=(120, 60))


def test_columns_that_tell_nothing_are_all_offered(tiny_model: ModelMaker) -> None:
    Path("one.csv").write_text("id,body\n" + "\n".join(f"{n},some text {n}" for n in range(50)))
    draft = _draft(tiny_model("llama"), train="one.csv")

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        _wizard(app).show_step("Data")
        await until(pilot, lambda: bool(app.screen.query("#columns Select")))
        await until(pilot, lambda: marks_of(draft)["Data"].state == "invalid")
        await until(pilot, lambda: _offered(app) == "Hold out 20 % of the 50 rows")
        assert draft.get("data.columns") is None
        rows = app.screen.query("#columns FieldRow").results(FieldRow)
        assert [row.field.choices for row in rows] == [("id", "body")] * 2

    drive(scenario, draft=draft, size=(120, 60))


@pytest.mark.parametrize("rows", [3000])
def test_of_many_rows_a_number_is_held_out(rows: int, tiny_model: ModelMaker) -> None:
    _rows(rows)
    draft = _draft(tiny_model("llama"), train="support.csv")

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        _wizard(app).show_step("Data")
        await until(pilot, lambda: _offered(app) == "Hold out 200 of the 3000 rows")
        app.screen.query_one("#hold-out-some", Button).press()
        await until(pilot, lambda: draft.get("data.test") == "200")
        field = app.screen.query_one("#row-data--test Input", Input)
        await until(pilot, lambda: field.value == "200" and _offered(app) == "")
        # Without it, it is offered again.
        field.value = ""
        await until(pilot, lambda: _offered(app) == "Hold out 200 of the 3000 rows")

    drive(scenario, draft=draft, size=(120, 60))


def test_a_share_that_cannot_be_held_out_is_an_error_of_its_field(tiny_model: ModelMaker) -> None:
    _rows(10, "prompt,completion,Agent")
    draft = _draft(tiny_model("llama"), train="support.csv", test="10")

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        _wizard(app).show_step("Data")
        await until(pilot, lambda: "data.test" in draft.errors())
        assert "leaves none to learn" in draft.errors()["data.test"]
        await until(pilot, lambda: "✗ data.test: 10 of 10 rows" in text_of(app))
        assert not app.screen.query("#columns Select")

    drive(scenario, draft=draft, size=(120, 60))


def test_empty_fields_say_what_they_come_to_and_numbers_are_replaced(
    tiny_model: ModelMaker,
) -> None:
    _rows()
    draft = _draft(tiny_model("llama"), train="support.csv", test="10%")
    draft.put("data.columns", {"prompt": "Utterance", "completion": "Intent"})

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        wizard = _wizard(app)
        wizard.show_step("Method")
        await until(pilot, lambda: bool(wizard.query("#row-method--rank Input")))
        await until(pilot, lambda: draft.findings.planned)
        steps = wizard.query_one("#row-training--max_steps Input", Input)
        # 108 rows in batches of 8, three times.
        await until(pilot, lambda: steps.placeholder == "3 epochs = 42 steps")
        assert "3 epochs = 42 steps" in text_of(app)
        rank = wizard.query_one("#row-method--rank Input", Input)
        assert rank.placeholder == "16"
        await opened(pilot)
        rank.focus()
        await write(pilot, "32")
        rate = wizard.query_one("#row-training--learning_rate Input", Input)
        rate.focus()
        await pilot.pause()
        rank.focus()
        await pilot.pause()
        await write(pilot, "8")
        assert draft.get("method.rank") == 8
        assert steps.placeholder == "3 epochs"
        draft.put("training.epochs", 1)
        draft.put("method.name", "vera")
        wizard.changed()
        await until(pilot, lambda: steps.placeholder == "1 epochs = 14 steps")
        assert rank.placeholder == "256"

    drive(scenario, draft=draft, size=(120, 60))


def test_a_share_is_no_path(tmp_path: Path) -> None:
    for name in ("50", "10%"):
        (tmp_path / name).write_text("")
        draft = Draft(tmp_path, raw={"model": "m", "data": {"train": "rows.csv", "test": name}})
        draft.opened.add("Data")
        draft.move_to(tmp_path / "below")
        assert draft.get("data.test") == name
        draft.note_failure(f"{tmp_path / 'below' / name}: is full")
        assert draft.findings.trouble is not None
        assert draft.findings.trouble[0] != "data.test"
        # It takes training rows, also where nothing is trained.
        draft.use_adapter("one")
        draft.put("data.train", None)
        assert marks_of(draft)["Data"].words == "incomplete"
    assert Draft(tmp_path, raw={"model": "m", "data": {"test": "0%"}}).errors().keys() == {
        "data.test"
    }
