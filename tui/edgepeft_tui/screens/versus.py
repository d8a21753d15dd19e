"""Two runs side by side: their losses in one plot, their measures in columns, what their recipes differ in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textual import work
from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll

from edgepeft_tui.past_training import past_training
from edgepeft_tui.records import differences_markup
from edgepeft_tui.run_comparison import compared, compared_markup
from edgepeft_tui.widgets.curve import Curve
from edgepeft_tui.widgets.page import Page, Panel


class VersusScreen(Page):
    """What two runs of the history have in common, and what not."""

    help = (
        "Two runs side by side. Their losses are smoothed. Measures are those of bundles for the same "
        "target, and ✓ marks the better one. They were taken on the same rows unless data.test is "
        "among the settings that differ."
    )

    def __init__(
        self,
        one: Mapping[str, Any],
        other: Mapping[str, Any],
        found: list[tuple[str, Any, Any]],
    ) -> None:
        """``found`` are the differences of the recipes of two records."""
        super().__init__()
        self._runs = (one, other)
        self._found = found
        self._losses: list[tuple[str, list[tuple[int, float]]]] = []

    @property
    def heading(self) -> str:  # type: ignore[override]
        """Which runs."""
        return " and ".join(self._names)

    @property
    def _names(self) -> tuple[str, str]:
        one, other = (Path(run["path"]).name for run in self._runs)
        return one, other

    def body(self) -> ComposeResult:
        """The plot, and below it measures and settings, beside one another where there is room."""
        with VerticalScroll(id="versus", classes="scroll"):
            yield Curve(id="curve")
            with Container(id="columns-of-two"):
                yield Panel("Fidelity", id="compared")
                yield Panel("Settings that differ", id="differences")

    def on_mount(self) -> None:
        """Fill the boxes."""
        one, other = (Path(run["path"]) for run in self._runs)
        self.query_one("#differences", Panel).say(differences_markup(one, other, self._found))
        self.query_one("#versus").focus()
        self._compare()
        self.read_losses()

    def refit(self) -> None:
        """Columns are as wide as there is room for."""
        self._compare()

    def recolour(self) -> None:
        """The curves in the colours of the theme."""
        self.query_one(Curve).draw_losses(self._losses)

    def _compare(self) -> None:
        panel = self.query_one("#compared", Panel)
        found = compared(*self._runs)
        panel.say(compared_markup(self._names, found, panel.content_size.width or 34))

    @work
    async def read_losses(self) -> None:
        """Read what the trainings have left of themselves in a thread: a long one has left much."""
        for name, run in zip(self._names, self._runs, strict=True):
            curves, _ = await asyncio.to_thread(past_training, Path(run["path"]))
            self._losses.append((name, curves.get("loss", [])))
        self.query_one(Curve).draw_losses(self._losses)
