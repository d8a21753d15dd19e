"""What a real build of a tiny model shows when it is done, and a talk with its bundle beside its base."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Unpack

import psutil
import pytest
import yaml
from textual.pilot import Pilot
from textual.widgets import DataTable

from edgepeft.data.rows import Message
from edgepeft.errors import InputError
from edgepeft.evaluation.bare_base import BareBase, base_of
from edgepeft.runtime.sampling_params import SamplingFields, SamplingParams
from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.screens.chat import ChatScreen
from edgepeft_tui.speaker import BASE_OF
from edgepeft_tui.widgets.conversation import Conversation
from edgepeft_tui.widgets.layer_strip import LayerStrip
from tests.tui.drive import drive, text_of, until, write


def test_layers_and_comparison_of_a_real_build_are_drawn(tiny_run: Path) -> None:
    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"result:{tiny_run / 'runs/small'}")
        await until(pilot, lambda: "Verdict" in text_of(app))
        await until(pilot, lambda: ": quantization error " in text_of(app))
        shown = text_of(app)
        assert "the worst of 2" in shown
        assert "generic KL (nats per token) against bundle size (MB)" in shown
        for variant in (" 1 int4", " 2 int8"):
            assert variant in shown

    drive(scenario, size=(120, 90))


def answering() -> list[psutil.Process]:
    """The processes of this one that hold a bundle or a base."""
    children = psutil.Process().children()
    return [child for child in children if "edgepeft_tui.answering" in child.cmdline()]


def test_a_bundle_and_its_base_are_asked_side_by_side(tiny_run: Path) -> None:
    bundle = tiny_run / "runs/small/bundles/cpu-int4"
    question: list[Message] = [{"role": "user", "content": "What is the colour of snow?"}]
    alone = BareBase(bundle).stream(question, max_new_tokens=256)
    wanted = "".join(alone)
    assert alone.completion().text == wanted

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"result:{tiny_run / 'runs/small'}")
        await until(pilot, lambda: "Verdict" in text_of(app))
        await pilot.press("b")
        await until(pilot, lambda: isinstance(app.screen, ChatScreen))
        await until(pilot, lambda: text_of(app).count("loaded in") == 2)
        assert all(chat.ready for chat in app.screen.query(Conversation))
        await write(pilot, "What is the colour of snow")
        await pilot.press("question_mark", "enter")
        await until(pilot, lambda: text_of(app).count("tokens/s") == 2)
        ours, base = app.screen.query(Conversation)
        [process] = [one for one in answering() if one.cmdline()[-1].startswith(BASE_OF)]
        assert (ours.voice, base.voice) == ("bundle", "base")
        assert base.messages[-1]["content"] == wanted
        assert ours.messages[0] == base.messages[0]
        # Taken away, it gives its memory back; the bundle stays.
        await pilot.press("ctrl+b")
        await until(pilot, lambda: len(app.screen.query(Conversation)) == 1)
        await until(pilot, lambda: not process.is_running())
        assert len(answering()) == 1

    drive(scenario, size=(120, 40))


def test_a_base_samples_as_it_is_told(tiny_run: Path) -> None:
    base = BareBase(tiny_run / "runs/small/bundles/cpu-int4")
    question: list[Message] = [{"role": "user", "content": "What is the colour of snow?"}]

    def said(**fields: Unpack[SamplingFields]) -> str:
        return "".join(base.stream(question, SamplingParams(max_new_tokens=12), **fields))

    assert said(temperature=3.0, seed=1) == said(temperature=3.0, seed=1)
    assert len({said(temperature=3.0, seed=seed) for seed in range(4)}) > 1
    assert said(temperature=3.0, top_k=1) == said()
    assert said() != said(stop=[said()[1:3]])
    with pytest.raises(InputError, match="top_p: must be above 0"):
        said(top_p=0)


def test_the_model_is_told_what_it_was_told_in_training_and_a_dead_process_is_seen(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "runs/told"
    shutil.copytree(tiny_run / "runs/small", run)
    resolved = run / "recipe.resolved.yaml"
    raw = yaml.safe_load(resolved.read_text())
    raw["data"]["system"] = "Answer in one word."
    resolved.write_text(yaml.safe_dump(raw))

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"chat:{run / 'bundles/cpu-int4'}")
        await until(pilot, lambda: "system  Answer in one word." in text_of(app))
        sent: list[bytes] = []
        monkeypatch.setattr(asyncio.StreamWriter, "write", lambda _, line: sent.append(line))
        await write(pilot, "hello")
        await pilot.press("enter")
        await until(pilot, lambda: bool(sent))
        assert [turn["role"] for turn in json.loads(sent[0])["messages"]] == ["system", "user"]
        [process] = answering()
        process.kill()
        await until(pilot, lambda: "the process has ended" in text_of(app))

    drive(scenario, size=(120, 40))


def test_a_bundle_away_from_its_run_has_no_base(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only a bundle in its run's folder has one"):
        base_of(tmp_path)


def test_bundles_with_the_same_adapters_have_a_row_for_each(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs/swaps"
    shutil.copytree(tiny_run / "runs/small", run)
    record = json.loads((run / "run.json").read_text())
    [bundle] = record["result"]["bundles"]
    wrong = [{"where": "line 3", "wanted": "on", "got": "off"}]
    adapters = [
        {"name": "desk", "gates": "passed", "fidelity": {**bundle["fidelity"], "wrong": []}},
        {"name": "sales", "gates": ["it fell"], "fidelity": {**bundle["fidelity"], "wrong": wrong}},
    ]
    record["result"]["bundles"] = [
        {**bundle, "target": target, "adapters": adapters} for target in ("cpu-int4", "cpu-int8")
    ]
    (run / "run.json").write_text(json.dumps(record))

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"result:{run}")
        await until(pilot, lambda: text_of(app).count("+ sales") == 2)
        shown = text_of(app)
        assert "adapter desk passed its gates" in shown
        assert "cpu-int8, sales, line 3" in shown
        table = app.screen.query_one(DataTable)
        table.focus()
        table.move_cursor(row=table.row_count - 1)
        await pilot.resize_terminal(110, 120)
        await pilot.pause(0.3)
        assert table.cursor_row == table.row_count - 1
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.focused, LayerStrip))
        assert app.focused.rounding.name == "cpu-int8"  # type: ignore[union-attr]

    drive(scenario, size=(120, 120))
