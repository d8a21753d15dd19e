"""Tables on stdout, plain enough to be read in a log."""

from __future__ import annotations

from collections.abc import Sequence


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a table; columns after the first are right-aligned where they look like numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for index, name in enumerate(header):
        numeric = index > 0 and all(_looks_numeric(row[index]) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*[str(cell) for cell in row])
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        # A log has no width; folding cells there would break what people grep for.
        console = Console(highlight=False, markup=False, width=200)
    console.print(table)


def _looks_numeric(text: str) -> bool:
    return text in ("–", "") or text[0] in "0123456789-+.<~"


def megabytes(count: float) -> str:
    """Bytes as people read them."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
