"""Verdicts on bundles in Markdown, for the summary that a build server shows of a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepeft.evaluation.advice_lines import advice_lines
from edgepeft.evaluation.table import table_rows
from edgepeft.evaluation.verdicts import Verdict
from edgepeft.utils.quantities import duration
from edgepeft.utils.terminal_text import visible_line


def summary_of(name: str, verdicts: Sequence[Verdict], seconds: float) -> str:
    """A section on what ``name`` was built from: a table of bundles, then what was missed and what to try."""
    bundles = [verdict.entry for verdict in verdicts if verdict.entry is not None]
    measured = [_named(verdict) for verdict in verdicts if verdict.gates]
    lines = [f"## edgepeft: {_plain(name)}", ""]
    if measured:
        lines += [*_table(measured), ""]
    for verdict in verdicts:
        lines += _told(verdict)
    lines += [f"- {_plain(verdict['path'])}" for verdict in bundles]
    lines += ["", f"{len(bundles)} bundles in {duration(seconds)}", "", ""]
    return "\n".join(lines)


def _named(verdict: Verdict) -> dict[str, Any]:
    """A verdict's entry as the table of a build takes it, under the verdict's own name."""
    assert verdict.entry is not None
    return {**verdict.entry, "target": verdict.name}


def _table(bundles: Sequence[Mapping[str, Any]]) -> list[str]:
    header, rows = table_rows(bundles)
    right = "|".join(["---", *["---:"] * (len(header) - 2), "---"])
    return [_row(header), f"|{right}|", *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_plain, cells)) + " |"


def _told(verdict: Verdict) -> list[str]:
    """What is to be said of a bundle besides its figures."""
    if verdict.error is not None:
        return [f"**{_plain(verdict.name)} failed:** {_plain(verdict.error)}", ""]
    missed = verdict.missed
    if not missed:
        return []
    assert verdict.entry is not None
    advice = verdict.entry.get("advice")
    lines = advice_lines(verdict.name, advice) if advice else []
    return [
        f"**{_plain(verdict.name)} missed {len(missed)} of its gates**",
        "",
        *(f"- {_plain(line)}" for line in (*missed, *lines)),
        "",
    ]


def _plain(text: object) -> str:
    """A text that Markdown shows as it is, in one line."""
    shown = visible_line(text).replace("\\", "\\\\")
    for mark in ("|", "<", "*", "_", "`", "[", "]", "#"):
        shown = shown.replace(mark, f"\\{mark}")
    return shown
