"""Each layer's quantization error as a cell of a strip, the worst layers below; walked by key and by mouse."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.reactive import reactive
from textual.widget import Widget

from edgepeft_tui.layers import LARGE, NOTICEABLE, LayerErrors
from edgepeft_tui.plain_text import plain_line

WORST = 5
"""Layers listed below the strip."""
_MARGIN, _WIDEST_CELL = 10, 4
_BAR = 24
_STRIP, _LIST = 1, 6
"""Lines of the widget: name, strip, numbers, cursor, scale, words, then the list."""


class LayerStrip(Widget, can_focus=True):
    """Higher is worse. One layer is chosen; left and right walk layers, up and down the ranking."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "walk(-1)", "Previous layer", show=False, id="layers.before"),
        Binding("right", "walk(1)", "Next layer", show=False, id="layers.next"),
        Binding("down,n", "rank(1)", "Next worst", id="layers.worse"),
        Binding("up", "rank(-1)", "Next better", show=False, id="layers.better"),
        Binding("home", "pick(0)", "First layer", show=False, id="layers.first"),
        Binding("end", "pick(-1)", "Last layer", show=False, id="layers.last"),
    ]
    chosen = reactive(0)

    def __init__(self, rounding: LayerErrors) -> None:
        super().__init__()
        self.rounding = rounding
        self._ranking = rounding.ranking
        self.border_title = "Layers"
        self.set_reactive(LayerStrip.chosen, self._ranking[0])

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """Lines of strip and list."""
        return _LIST + min(WORST, len(self._ranking))

    @property
    def _cell(self) -> tuple[int, int]:
        """(cells a layer, layers a cell): the strip takes the room there is."""
        room, count = max(8, self.content_size.width - _MARGIN), len(self.rounding.errors)
        if count > room:
            return 1, -(-count // room)
        return min(_WIDEST_CELL, room // count), 1

    def render(self) -> Content:
        """The strip, its numbers and scale, the chosen layer in words, the worst layers."""
        errors, (wide, each) = self.rounding.errors, self._cell
        worst = max(errors)
        cells = [max(errors[at : at + each]) for at in range(0, len(errors), each)]
        strip = "".join(self._heat(error, worst, wide) for error in cells)
        place = self.chosen // each * wide
        last = f"{len(errors) - 1:>{len(cells) * wide - 1}}" if len(cells) * wide > 2 else ""
        rank = self._ranking.index(self.chosen) + 1
        about = "the worst" if rank == 1 else f"rank {rank}"
        name, weights = map(plain_line, (self.rounding.name, self.rounding.weights))
        lines = [
            f"[b]{name}[/b]  [$muted]{weights}[/]",
            f"{'error':<{_MARGIN}}{strip}",
            f"[$muted]{'layer':<{_MARGIN}}0{last}[/]",
            f"{'':<{_MARGIN}}{' ' * place}[b]{'▲' * wide}[/b]",
            f"[$muted]{'scale':<{_MARGIN}}[/]{self._scale(worst)}",
            f"[b]layer {self.chosen}[/b]: quantization error {100 * errors[self.chosen]:.1f} %, "
            f"{about} of {len(errors)}",
            *(self._listed(layer, worst) for layer in self._ranking[:WORST]),
        ]
        return Content.from_markup("\n".join(lines))

    def _scale(self, worst: float) -> str:
        """What height and colours mean."""
        green, yellow, red = (f"[$text-{name}]■[/]" for name in ("success", "warning", "error"))
        low, high = f"{100 * NOTICEABLE:.0f}", f"{100 * LARGE:.0f}"
        above = {
            True: f"{yellow} {low} % and more  [$muted]no red: gates passed[/]",
            None: f"{yellow} {low} % and more  [$muted]no red: not measured[/]",
            False: f"{yellow} {low}–{high} %  {red} over {high} %[$muted], a gate failed[/]",
        }
        said = above[self.rounding.passed]
        return f"█ {100 * worst:.1f} %  {green} under {low} %  {said}"

    def _listed(self, layer: int, worst: float) -> str:
        error = self.rounding.errors[layer]
        bar = "█" * max(1, round(_BAR * error / worst)) if worst else ""
        sign, weight = ("▸", "[b]") if layer == self.chosen else (" ", "[$muted]")
        said = f"{sign} {weight}layer {layer:>3}  {100 * error:>5.1f} %[/]"
        return f"{said} [{self.rounding.colour(error)}]{bar}[/]"

    def _heat(self, error: float, worst: float, wide: int) -> str:
        """A cell: its height says how much of the worst error it is, its colour what the error is worth."""
        height = max(1, round(8 * error / worst)) if worst else 1
        return f"[{self.rounding.colour(error)}]{' ▁▂▃▄▅▆▇█'[height] * wide}[/]"

    def action_walk(self, by: int) -> None:
        """Choose a neighbour of the chosen layer."""
        self.chosen = min(len(self.rounding.errors) - 1, max(0, self.chosen + by))

    def action_rank(self, by: int) -> None:
        """Choose the layer next in the ranking, a worse or a better one."""
        at = self._ranking.index(self.chosen) + by
        if 0 <= at < len(self._ranking):
            self.chosen = self._ranking[at]

    def action_pick(self, layer: int) -> None:
        """Choose a layer; a negative one counts from the end."""
        self.chosen = layer % len(self.rounding.errors)

    def on_click(self, event: Click) -> None:
        """Choose what is under the mouse: a cell of the strip, or a line of the list."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        wide, each = self._cell
        if offset.y >= _LIST:
            self.chosen = self._ranking[min(offset.y - _LIST, len(self._ranking) - 1)]
        elif offset.y >= _STRIP and offset.x >= _MARGIN:
            first = (offset.x - _MARGIN) // wide * each
            below = range(first, min(first + each, len(self.rounding.errors)))
            # A cell of several layers shows the worst of them.
            self.chosen = max(below, key=self.rounding.errors.__getitem__, default=self.chosen)
