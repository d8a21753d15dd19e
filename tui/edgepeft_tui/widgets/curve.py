"""Loss, smoothed and as it was, and evaluation loss over the steps, drawn by textual-plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textual.app import ComposeResult
from textual.containers import Container
from textual.widgets import Static
from textual_plot import HiResMode, LegendLocation, PlotWidget

from edgepeft_tui.plain_text import title
from edgepeft_tui.progress import CURVES, smoothed


class Curve(Container):
    """The curves of a training, or a line that says when there will be some."""

    _labelled = False
    """Whether what is drawn has names that a legend can give."""

    def compose(self) -> ComposeResult:
        """The plot, and what stands in its place before the first two points."""
        yield PlotWidget(allow_pan_and_zoom=False)
        yield Static("The loss is drawn here once training has started.", id="no-curve")

    def on_mount(self) -> None:
        """Begin empty."""
        self.border_title = "Loss by step (·: each, x: evaluation)"
        plot = self.query_one(PlotWidget)
        plot.can_focus = False
        plot.display = False
        plot.margin_top, plot.margin_bottom, plot.margin_left = 0, 2, 6
        plot.set_xlabel("")
        plot.set_ylabel("")

    def draw(
        self, curves: Mapping[str, Sequence[tuple[int, float]]], planned: int | None = None
    ) -> None:
        """Draw the curves anew, over as many steps as are ``planned``.

        The smoothed loss is a line, the loss of each step a dot behind it, and the evaluation's points are
        crosses: no colour is needed to tell them.
        """
        plot, self._labelled = self.query_one(PlotWidget), True
        enough = any(len(points) > 1 for points in curves.values())
        plot.display = enough
        self.query_one("#no-curve").display = not enough
        if not enough:
            return
        colours = self.app.theme_variables
        plot.clear()
        for key, points in curves.items():
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            if key == "loss":
                plot.scatter(
                    steps,
                    values,
                    marker_style=colours["thumb"],
                    hires_mode=HiResMode.BRAILLE,
                )
                plot.plot(
                    steps,
                    [value for _, value in smoothed(points)],
                    line_style=colours["bar"],
                    hires_mode=HiResMode.BRAILLE,
                    label=CURVES[key],
                )
            else:
                plot.scatter(
                    steps,
                    values,
                    marker="x",
                    marker_style=colours["text-accent"],
                    label=CURVES.get(key, key),
                )
        self._bound(plot, curves, planned or 0)
        # A plot that is shown only now has no size yet.
        self.call_after_refresh(self._show_legend)

    def on_resize(self) -> None:
        """A low plot has no room for what its signs mean, which the border says too."""
        self.call_after_refresh(self._show_legend)

    def _show_legend(self) -> None:
        plot = self.query_one(PlotWidget)
        if plot.display and self._labelled:
            plot.show_legend(location=LegendLocation.TOPRIGHT, is_visible=plot.size.height > 11)

    def draw_losses(self, losses: Sequence[tuple[str, Sequence[tuple[int, float]]]]) -> None:
        """Draw the smoothed losses of two runs over one another, the second in coarser blocks than the first."""
        plot = self.query_one(PlotWidget)
        drawn = {name: points for name, points in losses if len(points) > 1}
        plot.display = bool(drawn)
        self.query_one("#no-curve", Static).display = not drawn
        if not drawn:
            self.query_one("#no-curve", Static).update("Neither run has trained here.")
            return
        colours = self.app.theme_variables
        styles = (("bar", HiResMode.BRAILLE, "⠒"), ("text-accent", HiResMode.QUADRANT, "▀"))
        plot.clear()
        told = []
        for (name, points), (colour, mode, sign) in zip(losses, styles, strict=True):
            if len(points) > 1:
                steps, values = zip(*smoothed(points), strict=True)
                plot.plot(steps, values, line_style=colours[colour], hires_mode=mode)
                told.append(f"{sign} {name}")
        self.border_title = title("Loss", *told)
        self._bound(plot, drawn, 0)

    def _bound(
        self, plot: Any, curves: Mapping[str, Sequence[tuple[int, float]]], planned: int
    ) -> None:
        values = [value for points in curves.values() for _, value in points]
        steps = [step for points in curves.values() for step, _ in points]
        room = (max(values) - min(values)) * 0.05 or 0.1
        plot.set_ylimits(max(0.0, min(values) - room), max(values) + room)
        # How far the training has come is seen from what is left empty.
        plot.set_xlimits(0, max([planned, *steps]))
