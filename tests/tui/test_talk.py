"""How a chat is asked, and what can be kept of it: options, earlier questions, copies and files of rows."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from edgepeft.data.formats import read_file
from edgepeft.data.row_checks import refuse_empty
from edgepeft.errors import InputError
from edgepeft.runtime import Runtime
from edgepeft.runtime.sampling_params import OutOfRange
from edgepeft_tui.answer_options import read_number, sampling_fields
from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.speaker import Speaker
from edgepeft_tui.talk import Talk, free_file, save
from edgepeft_tui.widgets.chat_windows import OptionsWindow, SaveWindow
from edgepeft_tui.widgets.conversation import Conversation
from tests.hot_swap.chain import ADAPTERS
from tests.tui.drive import drive, text_of, told, until, write
from tests.tui.still import SAID, hold_still, says

ANSWER = SAID["chat"][1]["piece"]


def _chats(app: EdgepeftApp) -> list[Conversation]:
    return list(app.screen.query(Conversation))


async def _talk(app: EdgepeftApp, pilot: Pilot[None], *voices: str) -> None:
    """Open a talk with adapters of the replayed bundle."""
    app.open_chat([Speaker(Path("chat").resolve(), voice) for voice in voices])
    await until(pilot, lambda: bool(_chats(app)) and all(chat.ready for chat in _chats(app)))


async def _ask(app: EdgepeftApp, pilot: Pilot[None], text: str) -> None:
    await write(pilot, text)
    await pilot.press("enter")
    await until(pilot, lambda: all(chat.talk.question == text for chat in _chats(app)))
    await until(pilot, lambda: not any(chat.busy for chat in _chats(app)))


def _keys(app: EdgepeftApp) -> str:
    return text_of(app).splitlines()[-1]


def _says(app: EdgepeftApp, words: str) -> bool:
    return words in " ".join(text_of(app).split())


def test_answers_are_made_as_the_options_say(filled: Path) -> None:
    runtime = Runtime(filled)
    asked, voice = "why", sorted(ADAPTERS)[0]
    usual = runtime.complete(asked, adapter=voice).text
    wanted = runtime.complete(
        asked, adapter=voice, system="Be brief", max_new_tokens=9, temperature=3.0, seed=4
    ).text
    assert wanted != usual

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"chat:{filled}")
        await until(pilot, lambda: bool(_chats(app)) and _chats(app)[0].ready)
        [chat] = _chats(app)
        await pilot.press("f4")
        await until(pilot, lambda: "max new tokens" in text_of(app))
        await write(pilot, "Be brief")
        await pilot.press("tab", "9", "tab", "3", "tab", "tab", "minus", "1", "tab", "tab", "4")
        await until(pilot, lambda: "✗ must be above 0 and at most 1, not -1" in text_of(app))
        # What can't be is not taken; the field that has it gets the focus.
        await pilot.press("enter")
        await until(pilot, lambda: "top_p  Sample" in text_of(app))
        await pilot.press("backspace", "backspace")
        await until(pilot, lambda: "✗" not in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, OptionsWindow))
        await until(pilot, lambda: "system  Be brief" in text_of(app))
        for said in ("max new tokens 9", "temperature 3", "seed 4", "own system message"):
            assert said in text_of(app)
        await _ask(app, pilot, asked)
        assert chat.talk.answer == wanted
        # Another system message holds from here on, and the defaults are a key away.
        await pilot.press("f4")
        await until(pilot, lambda: isinstance(app.screen, OptionsWindow))
        assert app.screen.query(Input).first().value == "Be brief"
        await pilot.click("#defaults")
        await pilot.click("#take")
        await until(pilot, lambda: "from here on told nothing beforehand" in text_of(app))
        assert "temperature" not in text_of(app)
        await pilot.press("ctrl+n")
        await until(pilot, lambda: asked not in text_of(app))
        await _ask(app, pilot, asked)
        assert chat.talk.answer == usual

    drive(scenario, size=(100, 40))


def test_a_set_system_message_takes_the_place_of_the_trainings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hold_still(monkeypatch)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await _talk(app, pilot, "desk")
        [chat] = _chats(app)
        for text, shown in ((" now", "Answer briefly. now"), (None, "")):
            await pilot.press("f4")
            await until(pilot, lambda: isinstance(app.screen, OptionsWindow))
            await (pilot.press("ctrl+u") if text is None else write(pilot, text))
            await pilot.press("enter")
            await until(pilot, lambda: not isinstance(app.screen, OptionsWindow))
            await until(pilot, partial(_says, app, shown or "no system message"))
            assert chat.system == shown
        assert "system  " not in text_of(app)
        # Escape changes nothing.
        await pilot.press("f4")
        await until(pilot, lambda: isinstance(app.screen, OptionsWindow))
        await write(pilot, "other")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, OptionsWindow))
        assert chat.system == ""

    drive(scenario)


@pytest.mark.parametrize("text", ["", "x", "true", ".inf", ".nan", "-0.1", "[1]", "9" * 400])
def test_what_is_no_temperature_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(OutOfRange, match=r"\Atemperature: must be .*\Z"):
        read_number("temperature", text)
    with pytest.raises(OutOfRange, match=r"top_k: must be a whole number, not 1\.5"):
        read_number("top_k", "1.5")
    assert read_number("temperature", "1") == 1
    assert "stop" not in sampling_fields()


def test_earlier_questions_come_back_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await _talk(app, pilot, "desk")
        prompt = app.screen.query_one("#prompt", Input)
        await pilot.press("up")
        assert prompt.value == ""
        for text in ("one", "two", "two"):
            await _ask(app, pilot, text)
        await write(pilot, "thr")
        for key, shown in zip(
            ("up", "up", "up", "down", "down", "down"),
            ("two", "one", "one", "two", "thr", "thr"),
            strict=True,
        ):
            await pilot.press(key)
            assert prompt.value == shown, key
        # Another chat of the session knows them too.
        await pilot.press("escape")
        await until(pilot, lambda: not app.screen.query("#prompt"))
        await _talk(app, pilot, "support")
        await pilot.press("up", "up", "x", "enter")
        await until(pilot, lambda: _chats(app)[0].talk.question == "onex")

    drive(scenario)


def test_what_was_said_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await _talk(app, pilot, "desk")
        await pilot.press("f7")
        await until(pilot, lambda: told(app) == "Nothing was answered yet.")
        assert app.clipboard == ""
        await _ask(app, pilot, "why")
        await pilot.press("f7")
        await until(pilot, lambda: app.clipboard == ANSWER)
        await pilot.press("f8")
        await until(pilot, lambda: app.clipboard == f"you: why\n\ndesk: {ANSWER}")
        await pilot.press("f5")
        await until(pilot, lambda: len(_chats(app)) == 2 and _chats(app)[1].ready)
        await _ask(app, pilot, "how")
        await pilot.press("f7")
        await until(pilot, lambda: app.clipboard == f"desk: {ANSWER}\n\nsupport: {ANSWER}")

    drive(scenario)


def test_a_half_of_a_character_is_copied_as_an_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)
    says("chat", [SAID["chat"][0], {"piece": "a\ud800\x1b]b"}, SAID["chat"][2]])

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await _talk(app, pilot, "desk")
        await _ask(app, pilot, "why")
        await pilot.press("f7")
        await until(pilot, lambda: app.clipboard == "a\\ud800\x1b]b")

    drive(scenario)


def test_a_conversation_is_saved_as_rows_and_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)
    Path("chat.jsonl").write_text("mine")
    Path("file").write_text("")

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await _talk(app, pilot, "desk", "support")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: told(app) == "Nothing was answered yet.")
        await _ask(app, pilot, "why")
        await _ask(app, pilot, "how")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, SaveWindow))
        field = app.screen.query_one(Input)
        assert field.value == "chat-2.jsonl"
        for name, refused in (
            ("chat.jsonl", "chat.jsonl: exists; name another"),
            ("chat.md", "chat.md: rows of messages are saved as .jsonl; name it so"),
            ("file/a.jsonl", "Not a directory"),
            ("none/a.jsonl", "No such file or directory"),
            ("~nobody-at-all/a.jsonl", "~nobody-at-all/a.jsonl: can't be a file"),
            (" ", "file: can't be a file"),
        ):
            field.value = name
            await pilot.press("enter")
            await until(pilot, partial(_says, app, refused))
        field.value = "mine/../talk.jsonl"
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, SaveWindow))
        assert told(app) == "Saved as talk.jsonl."

    drive(scenario, size=(160, 40))
    assert Path("chat.jsonl").read_text() == "mine"
    rows = read_file(Path("talk.jsonl")).rows
    said = [
        ("system", "Answer briefly."),
        *(("user", "why"), ("assistant", ANSWER), ("user", "how"), ("assistant", ANSWER)),
    ]
    assert [[(m["role"], m["content"]) for m in row.messages or ()] for row in rows] == [said] * 2


def test_what_was_not_answered_is_no_part_of_the_row(tmp_path: Path) -> None:
    talk = Talk()
    assert talk.row("be brief") is None
    assert (talk.question, talk.answer, talk.text()) == ("", "", "")
    for question, answer in (("a", ""), ("b", "B"), ("c", "")):
        talk.ask(question, "bundle")
        talk.hear(answer)
    row = talk.row(None)
    assert row is not None
    save([row], tmp_path, "x.jsonl")
    [read] = read_file(tmp_path / "x.jsonl").rows
    assert [turn["content"] for turn in read.messages or ()] == ["a", "", "b", "B"]
    refuse_empty([read])
    assert free_file("x", tmp_path) == "x-2.jsonl"
    with pytest.raises(InputError, match=r"x\.jsonl: exists"):
        save([row], tmp_path, "x.jsonl")


@pytest.mark.parametrize("pieces", [[], ["half an"]])
def test_an_answer_is_stopped_and_what_came_of_it_stays(
    pieces: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_still(monkeypatch)
    lines: list[dict[str, Any]] = [{"piece": piece} for piece in pieces]
    says("chat", [SAID["chat"][0], *lines])

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await _talk(app, pilot, "desk")
        [chat] = _chats(app)
        await until(pilot, lambda: "^n New" in _keys(app))
        assert "Stop" not in _keys(app)
        await write(pilot, "why")
        await pilot.press("enter")
        await until(pilot, lambda: "^g Stop" in _keys(app) and "New" not in _keys(app))
        assert "^s Save" in _keys(app)
        await until(pilot, lambda: chat.talk.answer == "".join(pieces))
        await pilot.press("ctrl+g")
        await until(pilot, lambda: not chat.busy and chat.ready)
        said = [turn["content"] for turn in chat.messages]
        assert said == (["why", "half an"] if pieces else [])
        assert ("no answer" in text_of(app)) == (not pieces)

    drive(scenario)


def test_every_key_of_a_talk_finds_room_in_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await _talk(app, pilot, "desk", "support")
        await until(pilot, lambda: "^s Save" in _keys(app) and "^p palette" in _keys(app))
        for key in ("esc Back", "^n New", "^b Base", "f3f5 Adapter", "f4 Options", "f7f8 Copy"):
            assert key in _keys(app)

    drive(scenario)
