"""Tables on stdout, plain enough to be read in a log."""

from __future__ import annotations

from collections.abc import Sequence

from edgepeft.utils.terminal_text import visible_line


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a table; columns after the first are right-aligned where they look like numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from edgepeft.cli.console import console

    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for index, name in enumerate(header):
        numeric = index > 0 and all(_looks_numeric(row[index]) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        # A cell is one line, and as wide as what is shown of it.
        table.add_row(*[visible_line(cell) for cell in row])
    console().print(table)


def _looks_numeric(text: str) -> bool:
    return text in ("–", "") or text[0] in "0123456789-+.<~"
