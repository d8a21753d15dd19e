"""Rich consoles for the command: they read no markup, and show control characters in the text they are given."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from edgepeft.utils.terminal_text import unfiltered, visible


def console(*, stderr: bool = False) -> Console:
    """A rich console on standard output or error that reads no markup in what it prints."""
    stream = sys.stderr if stderr else sys.stdout
    made = _VisibleConsole(file=unfiltered(stream), highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        # A log has no width; folding cells there would break what people grep for.
        made.width = 200
    return made


class _VisibleConsole(Console):
    """A console that shows control characters in text; escape sequences are rich's own alone."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # A rich control segment moves the cursor; text never becomes one.
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
