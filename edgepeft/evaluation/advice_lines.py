"""Advice on a missed gate in words, for the terminal and for summaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def advice_lines(name: str, advice: Mapping[str, Any]) -> list[str]:
    """The ``advice`` of a bundle's entry, a line each; ``name`` is the bundle's."""
    lines = []
    for lost in advice["lost"]:
        who = f"{name}: {lost['adapter']}" if lost["adapter"] else name
        if not lost["rows"]:
            lines.append(f"{who}: no test row is lost that the reference answers right")
            continue
        more = lost["rows"] - len(lost["first"])
        rest = f" and {more} more" if more else ""
        lines.append(
            f"{who}: {lost['rows']} test rows are lost that the reference answers right: "
            f"{', '.join(lost['first'])}{rest} (all in {lost['file']})"
        )
    for one in advice["try"]:
        lines.append(f"{name}: try {one['what']}: {one['why']} ({one['cost']})")
    return lines
