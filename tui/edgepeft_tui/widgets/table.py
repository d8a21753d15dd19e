"""A table whose columns are as wide as what stands in them, from its first frame on."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.widgets import DataTable


def fill(
    table: DataTable[Text],
    header: Sequence[Text],
    rows: Sequence[Sequence[Text]],
    keys: Sequence[str] | None = None,
) -> None:
    """
    Show other columns, known by their titles, and other rows, known by ``keys`` if there are some.

    Widths are said here. The table would find them itself once it's idle, and a frame that is painted before
    then, with its titles' widths alone, stays when nothing else about the table has changed.
    """
    table.clear(columns=True)
    for index, title in enumerate(header):
        widths = [cells[index].cell_len for cells in rows]
        table.add_column(title, key=title.plain, width=max([title.cell_len, *widths]))
    for index, cells in enumerate(rows):
        table.add_row(*cells, key=keys[index] if keys else None)
