"""Talking with bundles of every kind: adapters by name, two of them side by side, and encoders that read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Select

from edgepeft.errors import MissingError
from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING, TAGGING
from edgepeft.runtime import Encoder, Runtime
from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.readings import reading_markup
from edgepeft_tui.speaker import speaker_of
from edgepeft_tui.widgets.conversation import Conversation
from tests.hot_swap.chain import ADAPTERS
from tests.stages import Find
from tests.tui.drive import drive, text_of, until, write

TEXT = "What is the colour of a lemon (number 31)"


def _chats(app: EdgepeftApp) -> list[Conversation]:
    return list(app.screen.query(Conversation))


async def _ask(app: EdgepeftApp, pilot: Pilot[None], text: str) -> None:
    app.screen.query_one("#prompt", Input).value = text
    app.screen.query_one("#prompt").focus()
    await pilot.press("enter")
    await until(pilot, lambda: not any(chat.busy for chat in _chats(app)))


def test_adapters_are_chosen_by_name_and_two_answer_side_by_side(filled: Path) -> None:
    runtime = Runtime(filled)
    question = "What is the colour of snow?"
    answers = {name: runtime.complete(question, adapter=name).text for name in (*ADAPTERS, "base")}
    assert len(set(answers.values())) > 1

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"chat:{filled}")
        await until(pilot, lambda: "loaded in" in text_of(app))
        [chat] = _chats(app)
        assert chat.adapter == sorted(ADAPTERS)[0]
        await _ask(app, pilot, question)
        assert chat.messages[-1]["content"] == answers[str(chat.adapter)]
        # By key: the list opens, the next adapter is taken, and the prompt has the focus again.
        await pilot.press("f3")
        await until(pilot, lambda: chat.choice.expanded and "no adapter" in text_of(app))
        offered = re.findall(r"▌(\w+)", text_of(app))
        assert offered == [*sorted(ADAPTERS), "base"]
        await pilot.press("down", "enter")
        await until(pilot, lambda: chat.adapter == sorted(ADAPTERS)[1])
        assert "from here on with one" in text_of(app)
        await until(pilot, lambda: app.focused is not None and app.focused.id == "prompt")
        await pilot.press("ctrl+l")
        await _ask(app, pilot, question)
        assert chat.messages[-1]["content"] == answers["one"]
        # The same bundle again, with another adapter, on the same prompt.
        await pilot.press("f5")
        await until(pilot, lambda: len(_chats(app)) == 2)
        await until(pilot, lambda: all(chat.ready for chat in _chats(app)))
        left, right = _chats(app)
        assert (left.adapter, right.adapter) == ("one", "few")
        right.query_one(Select).value = "base"
        await until(pilot, lambda: right.adapter == "base")
        await pilot.press("ctrl+l")
        await _ask(app, pilot, question)
        assert left.messages[-1]["content"] == answers["one"]
        assert right.messages[-1]["content"] == answers["base"]
        await pilot.press("f5")
        await until(pilot, lambda: len(_chats(app)) == 1)

    drive(scenario, size=(100, 40))


def test_the_recipes_own_adapter_is_asked_first() -> None:
    bundle = {"path": "b", "adapters": [{"name": "desk"}, {"name": "alpha"}]}
    assert speaker_of(bundle).adapter == "desk"
    assert speaker_of({"path": "b"}).adapter is None


def test_a_merged_bundle_offers_no_adapters(tiny_run: Path) -> None:
    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"chat:{tiny_run / 'runs/small/bundles/cpu-int4'}")
        await until(pilot, lambda: "loaded in" in text_of(app))
        assert "f3" not in text_of(app).splitlines()[-1]
        await pilot.press("f3", "f5")
        assert len(_chats(app)) == 1

    drive(scenario)


def test_a_classifier_labels_and_has_no_base_to_ask(encoders: Find) -> None:
    folder = encoders(f"minilm-{CLASSIFICATION}", "cpu-int4")
    labels = Encoder(folder).classify(TEXT)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"chat:{folder}")
        await until(pilot, lambda: "loaded in" in text_of(app))
        assert "type a text, Enter sends it" in text_of(app)
        await _ask(app, pilot, TEXT)
        for label in labels:
            assert f"{label.label:<6}  {label.score:.3f}" in text_of(app)
        assert "read in" in text_of(app)
        await _ask(app, pilot, "lemon " * 300)
        await until(pilot, lambda: "tokens that this model" in text_of(app))
        await pilot.press("ctrl+b")
        await pilot.pause()
        assert len(_chats(app)) == 1

    drive(scenario, size=(90, 40))


def test_labelled_words_are_marked_in_the_text(encoders: Find) -> None:
    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"chat:{encoders(f'modernbert-{TAGGING}', 'cpu-fp32')}")
        await until(pilot, lambda: "loaded in" in text_of(app))
        await write(pilot, "What is the colour of a lemon")
        await pilot.press("enter")
        await until(pilot, lambda: "What is the colour of »a lemon«" in text_of(app))
        assert "thing" in text_of(app)

    drive(scenario, size=(100, 30))


def _numbers(text: str, decimals: int) -> list[float]:
    """What is shown with so many decimals; the last of them may differ between threads."""
    return [float(number) for number in re.findall(rf"-?\d\.\d{{{decimals}}}\b", text)]


def test_vectors_are_held_against_each_other(encoders: Find) -> None:
    folder = encoders(f"minilm-{EMBEDDING}", "cpu-fp32")
    encoder = Encoder(folder)
    one, two = encoder.embed("coal"), encoder.embed("a lemon")

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"chat:{folder}")
        await until(pilot, lambda: "loaded in" in text_of(app))
        await until(pilot, lambda: "another to compare with it" in text_of(app))
        await _ask(app, pilot, "coal")
        assert f"{len(one)} numbers, length 1.000" in text_of(app)
        shown = _numbers(text_of(app), decimals=4)
        assert shown[:2] == pytest.approx(one[:2].tolist(), abs=2e-4)
        await _ask(app, pilot, "a lemon")
        similar = pytest.approx(float(one @ two), abs=2e-3)
        assert similar in _numbers(text_of(app).split("a lemon")[1], decimals=3)
        await pilot.press("ctrl+l")
        await _ask(app, pilot, "a lemon")
        assert "the next text is compared with this one" in text_of(app)
        assert json.loads(_chats(app)[0].messages[-1]["content"])["similar"] == []

    drive(scenario, size=(100, 30))


def test_a_bundle_for_a_device_that_is_not_here_answers_on_the_cpu(encoders: Find) -> None:
    folder = encoders(f"roberta-{CLASSIFICATION}", "cuda-fp16")
    # As edgepeft run says it, without a device of that kind.
    with pytest.raises(MissingError, match=r"edgepeft\[cuda\]"):
        Encoder(folder)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"chat:{folder}")
        await until(pilot, lambda: "f6 On the CPU" in text_of(app))
        assert "edgepeft[cuda]" in " ".join(text_of(app).split())
        await pilot.press("f6")
        await until(pilot, lambda: "loaded in" in text_of(app))
        assert "on cpu" in text_of(app)
        await _ask(app, pilot, TEXT)
        assert Encoder(folder, provider="cpu").classify(TEXT)[0].label in text_of(app)

    drive(scenario, size=(100, 30))


@pytest.mark.parametrize("count", [3, 30])
def test_many_labels_are_cut_and_what_is_left_out_is_told(count: int) -> None:
    labels = [{"label": f"[{n}]", "score": 1 / count} for n in range(count)]
    lines = reading_markup("x", {"labels": labels}).split("\n")
    assert len(lines) == min(count, 11)
    assert ("and 20 more, 0.667 together" in lines[-1]) == (count == 30)
