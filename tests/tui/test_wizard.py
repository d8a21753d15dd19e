"""Whole paths through the wizard, by key, against the real core."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import Field
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

import edgepeft_tui.fields
import edgepeft_tui.raw_recipe
import edgepeft_tui.steps.base
from edgepeft.config.recipe import Recipe
from edgepeft.config.schema import json_schema
from edgepeft.config.sections import Section
from edgepeft.errors import InputError
from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.draft import Draft
from edgepeft_tui.draft_files import demo_draft, open_draft
from edgepeft_tui.raw_recipe import STEPS
from edgepeft_tui.screens.home import HomeScreen
from edgepeft_tui.screens.run import RunScreen
from edgepeft_tui.screens.wizard import WizardScreen
from edgepeft_tui.state import State
from edgepeft_tui.step_marks import marks_of
from edgepeft_tui.widgets.dialogs import HelpWindow, Question
from edgepeft_tui.widgets.field_row import FieldRow
from edgepeft_tui.widgets.picker import Picker
from tests.conftest import ModelMaker
from tests.tiny import write_tiny_data
from tests.tui.drive import drive, opened, text_of, told, until, write

Keys = Pilot[None]


def _wizard(app: EdgepeftApp) -> WizardScreen:
    assert isinstance(app.screen, WizardScreen)
    return app.screen


def test_the_first_key_of_a_newcomer_leads_to_the_demo_and_the_second_runs_it() -> None:
    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, WizardScreen))
        wizard = _wizard(app)
        await until(pilot, lambda: wizard.draft.findings.planned)
        assert {mark.state for mark in marks_of(wizard.draft).values()} == {"done"}
        await pilot.pause()
        assert app.focused is not None
        assert app.focused.id == "run"
        # The build itself takes minutes and is started by the tests with a tiny model.
        started = []
        app.jobs.start = lambda *given: started.append(given)  # type: ignore[method-assign,assignment]
        await pilot.press("enter")
        await until(pilot, lambda: bool(started))
        assert started[0][0] == ["build", "home-control.yaml", "--out", "runs/home-control"]
        assert Path("home-control.yaml").is_file()

    drive(scenario)


def test_a_recipe_is_typed_from_an_empty_one_to_yaml(tiny_model: ModelMaker) -> None:
    model = tiny_model("llama")
    write_tiny_data(Path("data"))

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, WizardScreen))
        wizard = _wizard(app)
        await until(pilot, lambda: _focused(app) == "model")
        for _ in range(len("smollm2-135m-instruct")):
            await pilot.press("backspace")
        await write(pilot, str(model))
        await until(pilot, lambda: "LlamaForCausalLM" in text_of(app))
        await pilot.press("ctrl+n")
        await until(pilot, lambda: _focused(app) == "data.train")
        await write(pilot, "data/train.jsonl")
        await pilot.press("tab", "tab")
        await write(pilot, "data/test.jsonl")
        await until(pilot, lambda: wizard.draft.findings.planned)
        await until(pilot, lambda: "»k<|im_end|>«" in text_of(app))
        await pilot.press("ctrl+n")
        await until(pilot, lambda: wizard.step == "Method")
        await until(pilot, lambda: bool(wizard.query("#row-method--rank")))
        row = wizard.query_one("#row-method--rank", FieldRow)
        await opened(pilot)
        row.query_one(Input).focus()
        await write(pilot, "4")
        await until(pilot, lambda: wizard.draft.findings.planned)
        await pilot.press("ctrl+n", "ctrl+n", "ctrl+n", "ctrl+s")
        await until(pilot, Path("run.yaml").is_file)
        written = Path("run.yaml").read_text()
        assert written == wizard.draft.yaml()
        schema = jsonschema.Draft202012Validator(json_schema())
        assert not list(schema.iter_errors(yaml.safe_load(written)))
        assert yaml.safe_load(written) == {
            "model": str(model),
            "data": {"train": "data/train.jsonl", "test": "data/test.jsonl"},
            "method": {"rank": 4},
            "targets": ["cpu-int4"],
        }

    drive(scenario, size=(120, 50))


def test_what_is_wrong_stands_at_its_field_and_run_leads_there(tiny_model: ModelMaker) -> None:
    model = tiny_model("llama")
    write_tiny_data(Path("data"))
    raw = {
        "model": str(model),
        "data": {"train": "data/train.jsonl", "test": "data/test.jsonl"},
        "method": {"rank": 0},
    }

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        wizard = _wizard(app)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: bool(wizard.query("#row-method--rank")))
        row = wizard.query_one("#row-method--rank", FieldRow)
        await until(pilot, lambda: row.has_class("-wrong"))
        assert row.has_class("-wrong")
        await until(pilot, lambda: "✗ method.rank: input" in text_of(app))
        assert "✗ 3 Method" in text_of(app)
        await opened(pilot)
        row.query_one(Input).focus()
        await pilot.press("backspace", "8")
        await until(pilot, lambda: wizard.draft.findings.planned)
        assert not row.has_class("-wrong")
        # An error that only planning can see: the rows are not there.
        wizard.draft.put("data.test", "data/gone.jsonl")
        wizard.changed()
        await until(pilot, lambda: "data.test" in wizard.draft.errors())
        assert "no such data file" in wizard.draft.errors()["data.test"]
        assert marks_of(wizard.draft)["Data"].state == "invalid"
        wizard.draft.put("data.test", "data/test.jsonl")

    drive(scenario, draft=Draft(Path.cwd(), "mine", raw), size=(120, 40))


def _focused(app: EdgepeftApp) -> str:
    """The recipe key of the field in focus; a step takes the focus once it is laid out."""
    nodes = app.focused.ancestors_with_self if app.focused is not None else ()
    return next((node.field.key for node in nodes if isinstance(node, FieldRow)), "")


def test_the_rail_is_walked_freely_and_help_speaks_of_the_field() -> None:
    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, WizardScreen))
        wizard = _wizard(app)
        await until(pilot, lambda: _focused(app) == "model")
        wizard.query_one("#rail", OptionList).focus()
        for step in STEPS[1:]:
            await pilot.press("down")
            await until(pilot, lambda step=step: wizard.step == step)  # type: ignore[misc]
        await pilot.press("up", "up", "up", "enter")
        await until(pilot, lambda: bool(wizard.query("#row-method--rank")))
        row = wizard.query_one("#row-method--rank", FieldRow)
        await opened(pilot)
        row.query_one(Input).focus()
        await pilot.pause()
        assert "Rank r" in text_of(app)
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(app.screen, HelpWindow))
        assert "--set method.rank=" in text_of(app)
        assert "at most 4096" in text_of(app)
        await pilot.press("escape")
        assert not wizard.query("#row-training--warmup_steps")
        await pilot.press("f4")
        await until(pilot, lambda: bool(wizard.query("#row-training--warmup_steps")))

    drive(scenario)


def test_a_file_is_picked_from_a_tree(tiny_model: ModelMaker) -> None:
    write_tiny_data(Path("data"))
    (Path("data") / "notes.txt").write_text("no rows")

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        wizard = _wizard(app)
        wizard.show_step("Data")
        await until(pilot, lambda: _focused(app) == "data.train")
        await pilot.press("tab", "enter")
        await until(pilot, lambda: isinstance(app.screen, Picker))
        await until(pilot, lambda: "data" in text_of(app))
        await pilot.press("down", "enter")
        await until(pilot, lambda: "train.jsonl" in text_of(app))
        assert "notes.txt" not in text_of(app)
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: wizard.draft.get("data.train") is not None)
        assert wizard.draft.get("data.train") == "data/train.jsonl"

    drive(scenario, draft=Draft(Path.cwd(), "mine", {"model": str(tiny_model("llama"))}))


def test_a_closed_terminal_loses_nothing_of_the_draft() -> None:
    async def first(app: EdgepeftApp, pilot: Keys) -> None:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.focused, Input))
        await write(pilot, "-x")
        _wizard(app).show_step("Method")
        await pilot.pause()

    drive(first)

    async def second(app: EdgepeftApp, pilot: Keys) -> None:
        assert "Continue run" in text_of(app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, WizardScreen))
        assert _wizard(app).draft.get("model") == "smollm2-135m-instruct-x"
        assert _wizard(app).step == "Method"

    drive(second)


def test_targets_that_a_recipe_cannot_have_are_greyed_with_the_reason() -> None:
    draft = demo_draft(Path.cwd())
    draft.put("merge.base", "original")

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        wizard = _wizard(app)
        wizard.show_step("Targets")
        await until(pilot, lambda: "not possible with this recipe" in text_of(app))
        devices = wizard.query_one("#devices", OptionList)
        names = [option.id or option.prompt for option in devices.options]
        at = next(index for index, name in enumerate(names) if "cpu-nf4" in str(name))
        assert devices.options[at].disabled
        assert "not possible with this recipe: merge.base: cpu-nf4 contains" in text_of(app)
        await opened(pilot)
        devices.focus()
        devices.highlighted = 1
        await pilot.press("space")
        assert wizard.draft.targets == ["cpu-int4", "cpu-int8"]

    drive(scenario, draft=draft, size=(160, 50))


def test_writing_over_a_recipe_is_asked_first() -> None:
    Path("mine.yaml").write_text("model: other\n")

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await pilot.press("n")
        assert Path("mine.yaml").read_text() == "model: other\n"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await pilot.press("y")
        await until(pilot, lambda: "rank" in Path("mine.yaml").read_text())

    drive(scenario, draft=Draft(Path.cwd(), "mine", {"model": "m", "method": {"rank": 4}}))


def test_keys_are_the_users_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    keymap = Path("config/edgepeft/keymap.yaml")
    keymap.parent.mkdir(parents=True)
    keymap.write_text("home.new: f9\n")

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        app.use_keymap()
        await pilot.press("n")
        await pilot.pause()
        assert isinstance(app.screen, HomeScreen)
        await pilot.press("f9")
        await until(pilot, lambda: isinstance(app.screen, WizardScreen))

    drive(scenario)
    keymap.write_text("home.nwe: f9\n")
    with pytest.raises(InputError, match=r"keymap.yaml: home.nwe: no such action"):
        EdgepeftApp().use_keymap()


def test_a_letter_jumps_to_a_control_and_the_palette_knows_the_places() -> None:
    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.focused, Input))
        await pilot.press("ctrl+o")
        await pilot.pause()
        await pilot.press("a")
        await until(pilot, lambda: app.focused is not None and app.focused.id == "rail")
        await pilot.press("ctrl+p")
        await pilot.pause()
        await write(pilot, "doctor")
        await pilot.pause(0.5)
        await pilot.press("enter")
        await until(pilot, lambda: "Libraries" in text_of(app))

    drive(scenario, size=(100, 40))


def test_without_colour_every_state_still_has_its_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        assert app.no_color
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "✗ 3 Method" in text_of(app))
        assert "○ 2 Data" in text_of(app)
        await until(pilot, lambda: "✗ 1 Model" in text_of(app))

    drive(scenario, draft=Draft(Path.cwd(), "mine", {"model": "m", "method": {"rank": 0}}))


def test_a_folder_of_our_name_in_the_working_folder_is_not_run() -> None:
    Path("edgepeft").mkdir()
    Path("edgepeft/__init__.py").write_text("open('ran', 'w').close()")

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        await pilot.press("n")
        await until(pilot, lambda: "LlamaForCausalLM" in text_of(app))
        assert not Path("ran").exists()

    drive(scenario, size=(120, 40))


def test_wrong_places_are_named_at_their_fields_and_long_ones_show_their_end() -> None:
    folder = Path("a-folder-with-quite-a-long-name/and-another-one-within/rows")
    write_tiny_data(folder)
    (folder / "bad.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": 3\n')
    raw = {"model": "smollm2-135m-instruct", "data": {"train": str(folder / "bad.jsonl")}}

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        wizard = _wizard(app)
        wizard.show_step("Data")
        await until(pilot, lambda: bool(wizard.query("#row-data--train Input")))
        await until(pilot, lambda: "rows/bad.jsonl" in text_of(app).split("What the model")[0])
        await until(pilot, lambda: "bad.jsonl line 2: " in text_of(app))
        await until(pilot, lambda: marks_of(wizard.draft)["Data"].state == "invalid")
        wizard.draft.put("model", "nowhere/at-all")
        wizard.changed()
        wizard.show_step("Model")
        await until(pilot, lambda: "✗ model: nowhere/at-all: " in text_of(app))
        await until(pilot, lambda: marks_of(wizard.draft)["Model"].state == "invalid")

    drive(scenario, draft=Draft(Path.cwd(), "mine", raw))


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("{ not json", "tui.json: not valid JSON"),
        ("[]", "tui.json: is not a mapping"),
        ('{"draft": {"raw": 3}}', "The saved draft is damaged and was left out."),
    ],
)
def test_a_damaged_state_file_is_named_and_no_error(held: str, wanted: str) -> None:
    Path("state").mkdir()
    Path("state/tui.json").write_text(held)
    assert State().get("theme") is None

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        await until(pilot, lambda: wanted in told(app))
        assert not app.drafts.kept()
        assert "Continue" not in text_of(app)

    drive(scenario)


def test_a_run_that_cannot_be_read_says_so() -> None:
    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        app.open("run:" + str(Path("nowhere").resolve()))
        await until(pilot, lambda: "unknown" in text_of(app))
        assert isinstance(app.screen, RunScreen)

    drive(scenario)


def test_a_build_at_work_is_offered_first_and_watched() -> None:
    run = Path("runs/long")
    run.mkdir(parents=True)
    record = {"name": "long", "state": "running", "pid": os.getpid(), "started": "2026-01-01"}
    (run / "run.json").write_text(json.dumps(record))
    events = [
        {"event": "planned", "stages": ["base", "train"]},
        {"event": "started", "stage": "train"},
        {"event": "progress", "stage": "train", "step": 7, "total": 80, "seconds": 9.0},
    ]
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        await until(pilot, lambda: "Watch long" in text_of(app))
        assert "running: train 7/80" in text_of(app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))

    drive(scenario)


def test_a_recipe_with_hot_swap_targets_is_changed_without_losing_a_key() -> None:
    raw = {
        "model": "m",
        "adapter": "one",
        "adapters": [{"name": "support", "path": "there", "test": "rows.csv"}],
        "targets": [
            {"name": "cpu-int4", "adapters": "hot-swap", "adapter_rank": 32},
            {"name": "desk", "like": "cuda-int4", "quantize": {"block_size": 64}},
        ],
    }
    Path("rich.yaml").write_text(yaml.safe_dump(raw))

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        wizard = _wizard(app)
        wizard.show_step("Targets")
        await until(pilot, lambda: bool(wizard.query("#row-targets--1--like Input")))
        # What the file says of a target is seen; what it doesn't say, with all keys alone.
        assert not wizard.query("#row-targets--0--session_options")
        assert not wizard.query("#row-targets--0--name")
        devices = wizard.query_one("#devices", OptionList)
        await until(pilot, lambda: app.focused is devices)
        rank = wizard.query_one("#row-targets--0--adapter_rank", FieldRow)
        rank.begin()
        await pilot.press("end", "backspace", "backspace", "0")
        await until(pilot, lambda: rank.has_class("-wrong"))
        await pilot.press("backspace", "8")
        await until(pilot, lambda: not rank.has_class("-wrong"))
        devices.focus()
        devices.highlighted = 1
        await pilot.press("space")
        await until(pilot, lambda: wizard.draft.targets == ["cpu-int4", "desk", "cpu-int8"])
        wizard.query_one("#parts-adapters .add").focus()
        await pilot.press("enter")
        await until(pilot, lambda: _focused(app) == "adapters.1.name")
        await write(pilot, "sales")
        await pilot.press("tab")
        await write(pilot, "elsewhere")
        await until(pilot, lambda: wizard.draft.get("adapters.1.path") == "elsewhere")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "sales" in Path("rich.yaml").read_text())
        raw["targets"][0]["adapter_rank"] = 8  # type: ignore[index]
        raw["targets"].append("cpu-int8")  # type: ignore[attr-defined]
        raw["adapters"].append({"name": "sales", "path": "elsewhere"})  # type: ignore[attr-defined]
        assert yaml.safe_load(Path("rich.yaml").read_text()) == raw
        await pilot.press("f4")
        await until(pilot, lambda: bool(wizard.query("#row-targets--0--session_options")))

    drive(scenario, draft=open_draft(Path("rich.yaml")), size=(120, 60))


def test_a_section_that_the_wizard_has_never_heard_of_is_a_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Part(Section):
        speed: int = Field(3, ge=1, description="How fast.")

    class Later(Recipe):
        haste: Part = Field(default_factory=Part, description="What is to come.")
        hurries: list[Part] = Field(default_factory=list, description="Several of it.")

    for module in (edgepeft_tui.fields, edgepeft_tui.raw_recipe, edgepeft_tui.steps.base):
        monkeypatch.setattr(module, "Recipe", Later)
    caches = (edgepeft_tui.fields.all_fields, edgepeft_tui.fields.part_fields)
    for cache in caches:
        cache.cache_clear()

    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        wizard = _wizard(app)
        wizard.show_step("Targets")
        await until(pilot, lambda: bool(wizard.query("#row-gates--max_task_kl")))
        assert not wizard.query("#row-haste--speed")
        await pilot.press("f4")
        await until(pilot, lambda: bool(wizard.query("#row-haste--speed")))
        assert wizard.query_one("#row-haste--speed", FieldRow).field.range == "at least 1"
        await opened(pilot)
        wizard.query_one("#parts-hurries .add").focus()
        await pilot.press("enter")
        await until(pilot, lambda: _focused(app) == "hurries.0.speed")

    try:
        drive(scenario, draft=Draft(Path.cwd(), "mine", {"model": "m"}), size=(120, 60))
    finally:
        for cache in caches:
            cache.cache_clear()


def test_f1_says_what_a_screen_is_for_and_which_keys_it_has() -> None:
    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        for place, words in (("runs", "Every build on this"), ("doctor", "What is installed here")):
            app.open(place)
            await pilot.pause(0.2)
            await pilot.press("f1")
            await until(pilot, lambda words=words: words in text_of(app))  # type: ignore[misc]
            assert "Go to a control by a letter" in text_of(app)
            await pilot.press("escape", "escape")

    drive(scenario, size=(100, 40))


def test_a_name_that_is_none_is_told_at_its_field() -> None:
    async def scenario(app: EdgepeftApp, pilot: Keys) -> None:
        wizard = _wizard(app)
        wizard.show_step("Review")
        await until(pilot, lambda: bool(wizard.query("#name")))
        wizard.query_one("#name", Input).value = "../out"
        await until(pilot, lambda: "✗ ../out: not a file name" in text_of(app))
        wizard.query_one("#name", Input).value = "out"
        await until(pilot, lambda: "not a file name" not in text_of(app))

    drive(scenario, draft=Draft(Path.cwd(), "mine", {"model": "m"}), size=(120, 40))
