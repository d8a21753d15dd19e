"""The places one can go to, by name: screens are imported when they are first opened.

So the first paint waits for none of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.screen import Screen

from edgepeft_tui.draft_files import demo_draft, new_draft, open_draft

if TYPE_CHECKING:
    from edgepeft_tui.app import EdgepeftApp

PLACES = (
    ("New run", "new", "Choose a model, data, a method and devices, step by step"),
    ("Try the demo", "demo", "A small model learns to control a smart home"),
    ("Continue draft", "draft", "The recipe you worked on last"),
    ("Runs", "runs", "What was built on this machine"),
    ("Targets", "targets", "The devices a bundle can be built for"),
    ("Doctor", "doctor", "What is installed, and what is missing"),
)
"""Title, name and description of the places in the palette."""


def go(app: EdgepeftApp, place: str) -> None:
    """Open a screen by name: one of ``PLACES``, or ``recipe:``, ``run:``, ``result:``, ``chat:`` and a path, or
    ``draft:`` and what a draft is kept as.

    Raises EdgepeftError where there is nothing of the kind at the path.
    """
    name, _, path = place.partition(":")
    match name:
        case "new":
            app.open_draft(new_draft(Path.cwd(), app.drafts.names()))
        case "demo":
            app.open_draft(demo_draft(Path.cwd(), app.drafts.names()), step="Review")
        case "draft":
            # Without one there is nothing to go on with but a new one.
            draft = app.drafts.find(path) or new_draft(Path.cwd(), app.drafts.names())
            app.open_draft(draft, draft.step)
        case "recipe":
            app.open_draft(open_draft(Path(path)), step="Review")
        case "run":
            app.open_run(Path(path))
        case _:
            app.push_screen(_screen(app, name, path))


def _screen(app: EdgepeftApp, name: str, path: str) -> Screen[None]:
    match name:
        case "runs":
            from edgepeft_tui.screens.runs import RunsScreen

            return RunsScreen()
        case "targets":
            from edgepeft_tui.screens.targets import TargetsScreen

            return TargetsScreen()
        case "doctor":
            from edgepeft_tui.screens.doctor import DoctorScreen

            return DoctorScreen()
        case "result":
            from edgepeft_tui.screens.result import ResultScreen

            return ResultScreen(app.jobs.watch(Path(path)))
        case "chat":
            from edgepeft_tui.screens.chat import ChatScreen
            from edgepeft_tui.speaker import Speaker

            return ChatScreen([Speaker(Path(path))])
    raise ValueError(f"{name}: no such place")


def binding_ids(app: type[EdgepeftApp]) -> Iterable[str]:
    """The actions that a keymap may name: of the app, of its screens and of what is on them."""
    from edgepeft_tui.screens.chat import ChatScreen
    from edgepeft_tui.screens.home import HomeScreen
    from edgepeft_tui.screens.result import ResultScreen
    from edgepeft_tui.screens.run import RunScreen
    from edgepeft_tui.screens.runs import RunsScreen
    from edgepeft_tui.screens.wizard import WizardScreen
    from edgepeft_tui.widgets.entry import Entry
    from edgepeft_tui.widgets.layer_strip import LayerStrip
    from edgepeft_tui.widgets.page import Page
    from edgepeft_tui.widgets.prompt import Prompt

    kinds = (
        *(app, Page, HomeScreen, WizardScreen),
        *(RunScreen, ResultScreen, ChatScreen, RunsScreen, LayerStrip, Entry, Prompt),
    )
    for kind in kinds:
        for binding in kind.BINDINGS:
            if isinstance(binding, Binding) and binding.id:
                yield binding.id
