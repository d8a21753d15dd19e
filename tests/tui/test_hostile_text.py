"""Text that anyone may have written is shown, and never obeyed: by the terminal, or as Textual's markup."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Input, Static

import edgepeft_tui.steps.model
from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.draft import Draft
from edgepeft_tui.draft_files import open_draft
from edgepeft_tui.plain_text import LONGEST_LINE, one_to_one, plain, plain_line, visible
from edgepeft_tui.screens.wizard import WizardScreen
from edgepeft_tui.speaker import Speaker
from edgepeft_tui.widgets.conversation import Conversation
from edgepeft_tui.widgets.picker import Picker
from tests.conftest import ModelMaker
from tests.tiny import write_tiny_data
from tests.tui.drive import drive, text_of, told, until
from tests.tui.painting import raw_text
from tests.tui.still import SAID, hold_still, says

HOSTILE = "x\x1b[2J[red]y[/]\u202ez\u200b\x9bm\x07\ud800"
SHOWN = "x\\u001b[2J[red]y[/]\\u202ez\\u200b\\u009bm\\u0007\\ud800"
SEEN = "x\\u001b[2J[red]y"
"""The beginning of what is shown, where a box may cut the rest."""
ALLOWED = {0x09, 0x0A, 0x200C, 0x200D, *range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2}
ALLOWED |= {0x110BD, 0x110CD, *range(0x13430, 0x13440)}
"""Line ends, joiners where they join, and formats that have a sign of their own."""


def _acts(character: str) -> bool:
    """Whether a character acts on a terminal or hides, as Unicode has it."""
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return hidden and ord(character) not in ALLOWED


def _check(app: EdgepeftApp, words: str = SEEN) -> None:
    """Nothing that acts is painted, and what was written is there to be read."""
    painted = raw_text(app)
    assert not [hex(ord(sign)) for sign in painted if _acts(sign) and sign != "\n"]
    assert words in text_of(app), text_of(app)


def test_every_character_that_acts_or_hides_is_escaped() -> None:
    for code in range(0x110000):
        if _acts(chr(code)):
            assert visible(chr(code)).startswith("\\"), hex(code)
    assert visible(HOSTILE) == SHOWN
    assert (
        visible("e\u0301 \u202f👩\u200d💻 ع\u200cم\n\tä")
        == "e\u0301 \u202f👩\u200d💻 ع\u200cم\n\tä"
    )
    # After an ASCII character a joiner has nothing to join, and only hides.
    assert visible("pass\u200dword") == "pass\\u200dword"


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text("[]/\\ab$ =x\x1b\n"))
def test_markup_of_any_text_says_the_text(text: str) -> None:
    for markup in (plain(text), f"[b]{plain(text)}[/b]"):
        assert Content.from_markup(markup).plain.removesuffix("\u200b") == visible(text)
    line = Content.from_markup(plain_line(text)).plain.removesuffix("\u200b")
    assert "\n" not in line
    assert not any(map(_acts, line))
    assert len(one_to_one(text)) == len(text)


def test_a_line_is_no_longer_than_it_can_be() -> None:
    assert len(Content.from_markup(plain_line("[" * 10**6)).plain) == LONGEST_LINE


def _write_hostile_run() -> None:
    """Every text that the files of a run hold is hostile."""
    for file in ("runs/first/run.json", "runs/second/run.json"):
        record = json.loads(Path(file).read_text())
        record |= {"name": HOSTILE, "model": HOSTILE, "targets": [HOSTILE], "recipe": HOSTILE}
        record |= {"error": HOSTILE, "started": HOSTILE}
        [bundle] = record["result"]["bundles"]
        bundle |= {"target": HOSTILE, "gates": [HOSTILE]}
        bundle["fidelity"]["wrong"] = [{"where": HOSTILE, "wanted": HOSTILE, "got": HOSTILE}]
        adapter = {"name": HOSTILE, "gates": "passed", "fidelity": bundle["fidelity"]}
        bundle["adapters"] = [adapter]
        Path(file).write_text(json.dumps(record))
    run = Path("runs/first")
    recipe = {"model": HOSTILE[:-1], HOSTILE[:-1]: "new"}
    (run / "recipe.resolved.yaml").write_text(yaml.safe_dump(recipe))
    events = [
        {"event": "planned", "stages": [HOSTILE]},
        {"event": "started", "stage": HOSTILE},
        {"event": "warning", "stage": HOSTILE, "text": HOSTILE},
        {"event": "progress", "stage": HOSTILE, "step": 3, "total": 9, "seconds": 1.0},
    ]
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    manifest = run / "stages/quantize-int4-0123456789ab/edgepeft.json"
    facts = {"layer_errors": [0.1, 0.2], "algorithm": HOSTILE, "linear": HOSTILE}
    manifest.write_text(json.dumps({"result": facts}))
    report = run / "bundles/cpu-int4/fidelity.json"
    report.write_text(json.dumps({"weights": facts}))
    (run / f"bundles/cpu-int4/{HOSTILE[:-1].replace('/', '')}").write_text("")
    comparison = json.loads((run / "comparison.json").read_text())
    for entry in comparison["entries"]:
        entry["values"] = {HOSTILE: HOSTILE}
    (run / "comparison.json").write_text(json.dumps(comparison))


@pytest.mark.parametrize("place", ["home", "runs", "run", "result", "layers", "compare"])
def test_the_files_of_a_run_are_shown_and_not_obeyed(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_still(monkeypatch)
    _write_hostile_run()
    run = Path("runs/first").resolve()

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        if place in ("run", "result"):
            app.open(f"{place}:{run}")
        elif place == "layers":
            app.open(f"run:{run}")
            await pilot.pause(0.3)
            app.screen.action_layers()  # type: ignore[attr-defined]
        elif place != "home":
            app.open("runs")
            await pilot.pause(0.2)
            if place == "compare":
                await pilot.press("space", "down", "space", "c")
        await until(pilot, lambda: SEEN in text_of(app))
        _check(app)
        await pilot.press("f1")
        await pilot.pause(0.3)
        _check(app)

    drive(scenario, size=(140, 100))


def test_a_recipe_and_its_rows_are_shown_and_not_obeyed(tiny_model: ModelMaker) -> None:
    write_tiny_data(Path.cwd())
    text = HOSTILE[:-1]
    row = json.dumps({"prompt": f"What? {text}", "completion": text}) + "\n"
    Path("train.jsonl").write_text(row)
    raw: dict[str, Any] = {
        "model": str(tiny_model("llama")),
        "data": {"train": "train.jsonl", "test": "test.jsonl", "system": text},
    }
    Path("r.yaml").write_text(yaml.safe_dump(raw))
    draft = open_draft(Path("r.yaml"))
    draft.put("targets", [{"name": text, "like": "cpu-int4"}])
    draft.name = text

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        wizard = app.screen
        assert isinstance(wizard, WizardScreen)
        wizard.show_step("Data")
        await until(pilot, lambda: "»x\\u001b[2J[red]y" in text_of(app))
        _check(app)
        # In a field a sign stays one sign, for the cursor; what it holds is as it was.
        field = wizard.query_one("#row-data--system Input", Input)
        assert "x�[2J[red]y[/]�z��m�" in text_of(app)
        assert field.value == text
        draft.put("method", {"name": text})
        for step, words in (("Method", SEEN), ("Targets", "x\\u001b[2J"), ("Review", "x\\u001b")):
            wizard.show_step(step, anew=True)
            await until(pilot, lambda words=words: words in text_of(app))  # type: ignore[misc]
            _check(app, words)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: bool(told(app)))
        await pilot.pause(0.3)
        _check(app, SEEN)

    drive(scenario, draft=draft, size=(140, 60))


def test_what_a_model_is_called_and_answers_is_shown_and_not_obeyed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hold_still(monkeypatch)
    ready, _, done = SAID["chat"]
    adapter = {"name": HOSTILE, "rank": None, "gates": None, "warning": HOSTILE}
    told_of = {"base": HOSTILE, "target": HOSTILE, "warning": HOSTILE, "system": HOSTILE}
    facts = {**ready["ready"], **told_of, "adapters": [adapter]}
    says("chat", [{"ready": facts}, {"piece": f"{HOSTILE}\n{HOSTILE}"}, done])
    labels = [{"label": HOSTILE, "score": 0.5}]
    reading = {"labels": labels, "seconds": 0.1, "warning": HOSTILE}
    encoder = {**facts, "adapters": None, "task": "text-classification"}
    says("reading", [{"ready": encoder}, {"reading": reading}])

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        for name in ("chat", "reading"):
            app.open_chat([Speaker(Path(name).resolve())])
            await until(pilot, lambda: bool(app.screen.query(Conversation)))
            await until(pilot, lambda: SEEN in text_of(app))
            prompt = app.screen.query_one("#prompt", Input)
            prompt.value = HOSTILE
            await pilot.press("enter")
            await until(pilot, lambda: text_of(app).count(SEEN) >= 4)
            _check(app)

    drive(scenario, size=(140, 60))


def test_a_models_facts_and_the_names_of_files_are_shown_and_not_obeyed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answer(*arguments: str, folder: Path, text: str = "") -> Any:
        facts = dict.fromkeys(("architecture", "dtype", "licence", "why_not", "kind"), HOSTILE)
        numbers = dict.fromkeys(("parameters", "layers", "file_bytes", "context_length"), 1)
        return {**facts, **numbers, "tied_embeddings": True, "supported": False, "kind": "model"}

    monkeypatch.setattr(edgepeft_tui.steps.model, "ask", answer)
    folder = Path(HOSTILE[:-1].replace("/", ""))
    folder.mkdir()

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.state.put("models", [HOSTILE])
        await until(pilot, lambda: text_of(app).count(SEEN) >= 4)
        _check(app)
        await pilot.press("tab", "enter")
        await until(pilot, lambda: isinstance(app.screen, Picker))
        await until(pilot, lambda: text_of(app).count(SEEN) >= 1)
        _check(app, "x\\u001b[2J[red]y[]")
        app.screen.query_one("#place", Input).value = f"{HOSTILE}~nobody"
        app.screen.query_one("#place").focus()
        await pilot.press("enter")
        await until(pilot, lambda: "does not" in text_of(app))
        _check(app)

    drive(scenario, draft=Draft(Path.cwd(), "mine", {"model": "m"}), size=(140, 60))


def test_what_no_screen_has_made_visible_does_not_reach_the_terminal_either() -> None:
    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await app.screen.query_one("#body").mount(Static(Content(HOSTILE), id="careless"))
        await pilot.pause()
        _check(app, "x[2J[red]y[/]z")

    drive(scenario)
