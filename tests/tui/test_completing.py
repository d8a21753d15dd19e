"""Paths and names are completed while they are typed, and the picker's list is narrowed."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import DirectoryTree, Input

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.completing import Completing, complete_path, nearest
from edgepeft_tui.draft import Draft
from edgepeft_tui.path_fields import PathKind, path_kind
from edgepeft_tui.widgets.entry import Entry
from edgepeft_tui.widgets.picker import Picker
from tests.tui.drive import drive, opened, text_of, until, write
from tests.tui.still import hold_still


def _kind(key: str) -> PathKind:
    kind = path_kind(key)
    assert kind is not None
    return kind


def _tree(*names: str) -> None:
    """Files, and folders where a name ends with a slash."""
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text("")


def test_each_field_is_completed_with_what_it_takes() -> None:
    _tree("data/train.jsonl", "data/trains.txt", "data/.hidden.jsonl", "data/Try.csv", "m.gguf")
    _tree("models/mine/config.json", "models/mine/x.gguf", "adapter/adapter_config.json")
    rows, model, text = _kind("data.train"), _kind("model"), _kind("data.generic")
    for kind, typed, wanted in (
        (rows, "da", "data/"),
        (rows, "data/", "data/Try.csv"),
        (rows, "data/tra", "data/train.jsonl"),
        (text, "data/tra", "data/trains.txt"),
        (rows, "./data/tra", "./data/train.jsonl"),
        (rows, "data/../data/tra", "data/../data/train.jsonl"),
        # Who types small letters finds a capital; the same letters come first.
        (rows, "data/try", "data/Try.csv"),
        (rows, "DATA", "data/"),
        # What is hidden is found after a dot.
        (rows, "data/h", None),
        (rows, "data/.", "data/.hidden.jsonl"),
        (rows, "data/train.jsonl", None),
        (rows, "m", "models/"),
        (model, "m", "m.gguf"),
        (model, "mo", "models/"),
        (model, "models/", "models/mine/"),
        # That is a model: it is what is looked for, though more lies in it.
        (model, "models/mine/", None),
        (model, "models/mine/x", "models/mine/x.gguf"),
        (_kind("adapters.0.path"), "a", "adapter/"),
        (_kind("adapter.12.rows"), "data/tra", "data/train.jsonl"),
        (rows, "none/x", None),
        (rows, "m.gguf/x", None),
        (rows, "~nobody-at-all/x", None),
        (rows, "x\0/y", None),
    ):
        assert complete_path(typed, Path.cwd(), kind) == wanted, typed
    assert complete_path(f"{Path.cwd()}/da", Path("/"), rows) == f"{Path.cwd()}/data/"
    assert path_kind("quantize.algorithm") is None


def test_the_home_stays_as_it_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd() / "home"))
    _tree("home/rows/a.jsonl")
    assert complete_path("~/r", Path("/"), _kind("data.train")) == "~/rows/"
    assert complete_path("~/rows/", Path("/"), _kind("data.train")) == "~/rows/a.jsonl"


def test_a_name_that_can_not_be_shown_as_it_is_is_not_suggested() -> None:
    _tree("a\x1b[2J.jsonl", "a\u202eb.jsonl", "a\nb.jsonl")
    assert complete_path("a", Path.cwd(), _kind("data.train")) is None
    _tree("a long name [red].jsonl")
    assert complete_path("a", Path.cwd(), _kind("data.train")) == "a long name [red].jsonl"


def test_the_nearest_is_the_shortest_and_what_is_written_alike_comes_first() -> None:
    assert nearest("mo", ["models-2/", "models/", "MO/"]) == "models/"
    assert nearest("mo", ["MOdels"]) == "MOdels"
    assert nearest("ss", ["ß"]) is None
    assert nearest("x", ["x"]) is None
    assert nearest("", []) is None


def test_a_path_is_completed_in_the_wizard_and_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hold_still(monkeypatch)
    _tree("rows/train.jsonl")
    draft = Draft(Path.cwd(), "mine", {"model": "m"})

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await opened(pilot)
        app.screen.show_step("Data")  # type: ignore[attr-defined]
        await opened(pilot)
        field = app.screen.query_one("#row-data--train Input", Input)
        field.focus()
        await write(pilot, "ro")
        await until(pilot, lambda: "▌rows/" in text_of(app))
        assert field.value == "ro"
        await pilot.press("right")
        assert field.value == "rows/"
        await until(pilot, lambda: "▌rows/train.jsonl" in text_of(app))
        await pilot.press("right")
        await until(pilot, lambda: draft.get("data.train") == "rows/train.jsonl")
        await pilot.press("ctrl+z", "ctrl+z")
        assert field.value == "ro"

    drive(scenario, draft=draft, size=(100, 40))


def test_the_model_is_completed_with_every_name_that_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hold_still(monkeypatch)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await opened(pilot)
        field = app.screen.query_one("#row-model Input", Input)
        field.focus()
        await write(pilot, "all-mini")
        await until(pilot, lambda: "▌all-minilm-l6-v2" in text_of(app))
        # What lies in the hub's cache is asked for once somebody types.
        for typed, wanted in (("org/t", "Org/tiny"), ("Org/s", "Org/smol")):
            await pilot.press("ctrl+u")
            await until(pilot, lambda: field.value == "")
            await write(pilot, typed)
            await until(pilot, partial(_shows, app, f"▌{typed}{wanted[len(typed) :]}"))
            await pilot.press("right")
            assert field.value == wanted

    drive(scenario, draft=Draft(Path.cwd(), "mine", {"model": ""}), size=(100, 40))


def _shows(app: EdgepeftApp, words: str) -> bool:
    return words in text_of(app)


class _Never(PathKind):
    """A disk that doesn't answer until it is ``let``."""

    let = threading.Event()
    asked = 0

    def fits_file(self, name: str) -> bool:
        type(self).asked += 1
        return self.let.wait()


class _One(App[None]):
    def compose(self) -> ComposeResult:
        yield Entry(suggester=Completing(_Never(), Path.cwd))


@pytest.mark.parametrize("answers", [True, False])
def test_a_disk_that_does_not_answer_holds_up_no_key_and_no_end(answers: bool) -> None:
    _tree("abcdef.x")
    _Never.let.clear()
    _Never.asked = 0

    async def look() -> None:
        app = _One()
        async with app.run_test() as pilot:
            field = app.query_one(Input)
            field.focus()
            await pilot.press("a")
            await until(pilot, lambda: _Never.asked == 1)
            await pilot.press("b", "c", "d")
            assert field.value == "abcd"
            if answers:
                _Never.let.set()
                await until(pilot, lambda: "abcdef.x" in text_of(app))
                # What was typed on the way to it is not looked for any more.
                assert _Never.asked == 2
            assert field.value == "abcd"

    try:
        asyncio.run(look())
    finally:
        _Never.let.set()


def test_the_pickers_list_is_narrowed_as_one_types(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)
    _tree("a/inner/deep.jsonl", "a/Train.jsonl", "beta/", "Alphabet/train.jsonl", "b.jsonl")
    draft = Draft(Path.cwd(), "mine", {"model": "m"})

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await opened(pilot)
        app.screen.show_step("Data")  # type: ignore[attr-defined]
        await opened(pilot)
        await pilot.press("tab", "enter")
        await until(pilot, lambda: isinstance(app.screen, Picker) and "beta" in text_of(app))
        tree = app.screen.query_one(DirectoryTree)

        def listed() -> list[str]:
            return [str(node.label) for node in tree.root.children]

        everything = listed()
        # Into the tree, which has the focus; capitals or not.
        await write(pilot, "bet")
        await until(pilot, lambda: listed() == ["Alphabet", "beta"])
        assert app.screen.query_one("#narrow", Input).value == "bet"
        await write(pilot, "x")
        await until(pilot, lambda: listed() == [])
        await pilot.press("enter")
        await until(pilot, lambda: "✗ betx is in no name here" in text_of(app))
        await pilot.press("backspace")
        await until(pilot, lambda: listed() == ["Alphabet", "beta"])
        assert "✗" not in text_of(app)
        await pilot.press("ctrl+u")
        await until(pilot, lambda: listed() == everything)
        # A folder is opened, and all of it is shown; what is in it is narrowed next.
        await write(pilot, "alp")
        await until(pilot, lambda: listed() == ["Alphabet"])
        await pilot.press("down", "up", "down", "enter")
        await until(pilot, lambda: listed() == ["train.jsonl"])
        assert app.screen.query_one("#narrow", Input).value == ""
        assert app.screen.query_one("#place", Input).value == str(Path("Alphabet").resolve())
        await pilot.press("shift+tab")
        await pilot.press("ctrl+u")
        await write(pilot, f"{Path.cwd()}/a/")
        await pilot.press("enter")
        await until(pilot, lambda: listed() == ["inner", "Train.jsonl"])
        # Enter waits for what was typed just before it.
        await write(pilot, "train")
        await pilot.press("enter")
        await until(pilot, lambda: draft.get("data.train") == "a/Train.jsonl")

    drive(scenario, draft=draft, size=(100, 40))
