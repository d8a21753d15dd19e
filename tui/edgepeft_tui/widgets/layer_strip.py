"""Each layer's rounding error as a cell of a strip, with the worst layers below; walked by key and by mouse."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.reactive import reactive
from textual.widget import Widget

from edgepeft_tui.layers import LayerErrors
from edgepeft_tui.words import plain

WORST = 5
"""Layers listed below the strip."""
_MARGIN, _WIDEST_CELL = 10, 4
_BAR = 24
_STRIP, _LIST = 1, 5
"""Lines of the widget: name, strip, scale, cursor, words, then the list."""


class LayerStrip(Widget, can_focus=True):
    """Higher and warmer is worse. One layer is chosen; left and right walk layers, up and down the ranking."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "walk(-1)", "Layer before", show=False, id="layers.before"),
        Binding("right", "walk(1)", "Next layer", show=False, id="layers.next"),
        Binding("down,n", "rank(1)", "Next worst", id="layers.worse"),
        Binding("up", "rank(-1)", "Worse", show=False, id="layers.better"),
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
        """The strip, its scale, the chosen layer in words, the worst layers."""
        errors, (wide, each) = self.rounding.errors, self._cell
        worst = max(errors)
        cells = [max(errors[at : at + each]) for at in range(0, len(errors), each)]
        strip = "".join(_heat(error / worst if worst else 0.0, wide) for error in cells)
        place = self.chosen // each * wide
        scale = f"0{len(errors) - 1:>{len(cells) * wide - 1}}" if len(cells) * wide > 2 else "0"
        rank = self._ranking.index(self.chosen) + 1
        about = "the worst" if rank == 1 else f"number {rank}"
        lines = [
            f"[b]{plain(self.rounding.name)}[/b]  [$foreground 60%]{plain(self.rounding.weights)}[/]",
            f"{'error':<{_MARGIN}}{strip}",
            f"[$foreground 60%]{'layer':<{_MARGIN}}{scale}[/]",
            f"{'':<{_MARGIN}}{' ' * place}[b]{'▲' * wide}[/b]",
            f"[b]layer {self.chosen}[/b]: rounding changes what it adds by "
            f"{100 * errors[self.chosen]:.1f} %, {about} of {len(errors)}",
            *(self._listed(layer, worst) for layer in self._ranking[:WORST]),
        ]
        return Content.from_markup("\n".join(lines))

    def _listed(self, layer: int, worst: float) -> str:
        error = self.rounding.errors[layer]
        bar = "█" * max(1, round(_BAR * error / worst)) if worst else ""
        sign, weight = ("▸", "[b]") if layer == self.chosen else (" ", "[$foreground 60%]")
        return f"{sign} {weight}layer {layer:>3}  {100 * error:>5.1f} %[/] {_coloured(bar, error / (worst or 1))}"

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


def _coloured(text: str, share: float) -> str:
    colour = (
        "$text-success" if share < 1 / 3 else "$text-warning" if share < 2 / 3 else "$text-error"
    )
    return f"[{colour}]{text}[/]"


def _heat(share: float, wide: int) -> str:
    """A cell for a share of the worst error: its height says how much, its colour says it again."""
    return _coloured(" ▁▂▃▄▅▆▇█"[max(1, round(8 * share))] * wide, share)
