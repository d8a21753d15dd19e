"""What the history shows of a run: its cells, its scores, what it is sorted by, how two recipes differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepeft.metrics.names import vocabulary
from edgepeft.utils.quantities import megabytes, number
from edgepeft_tui.fields import shown
from edgepeft_tui.plain_text import plain, plain_line, visible_line
from edgepeft_tui.verdicts import bundles_of, run_verdict
from edgepeft_tui.words import HANG


def differences_markup(one: Path, other: Path, found: list[tuple[str, Any, Any]]) -> str:
    """Two recipes side by side, differences only."""
    if not found:
        return "The two recipes are the same."
    names = [visible_line(run.name) for run in (one, other)]
    width = max(map(len, names))
    lines = []
    for key, left, right in found:
        lines.append(f"[b]{plain_line(key)}[/b]")
        for name, value in zip(names, (left, right), strict=True):
            said = plain_line(shown(value) or "not set")
            lines.append(f"  [$muted]{plain(f'{name:<{width}}')}[/]  {HANG}{said}")
    return "\n".join(lines)


def cells_of(run: Mapping[str, Any]) -> list[str]:
    """What the table of runs says of one, in the order of its columns after the first."""
    measured = [bundle["fidelity"] for bundle in bundles_of(run) if bundle.get("fidelity")]
    return [
        str(run.get("name", "")),
        run_verdict(run)[1],
        str(run.get("started", ""))[:16].replace("T", " "),
        " ".join(number(_score(facts), 3) for facts in measured) or "–",
        " ".join(number(facts.get("task_kl")) for facts in measured) or "–",
        " ".join(megabytes(bundle["bytes"]) for bundle in bundles_of(run)) or "–",
        " ".join(map(str, run.get("targets", []))),
        str(run.get("model", "")),
    ]


def _score(facts: Mapping[str, Any]) -> float | None:
    value = facts.get(vocabulary(facts).columns[0].measure)
    return None if value is None else float(value)


def measures(facts: Mapping[str, Any]) -> str:
    """The measures of a bundle in a line, by their names."""
    return ", ".join(
        f"{column.title} {number(facts.get(column.measure), column.digits)}"
        for column in vocabulary(facts).columns
    )


def sort_key(run: Mapping[str, Any], by: str) -> tuple[bool, Any]:
    """What a run is sorted by; one that has no such thing comes last."""
    match by:
        case "score":
            measured = [b["fidelity"] for b in bundles_of(run) if b.get("fidelity")]
            found = [_score(facts) or 0.0 for facts in measured]
            return (bool(found), max(found, default=0.0))
        case "size":
            return (not bundles_of(run), min((b["bytes"] for b in bundles_of(run)), default=0))
        case _:
            return (True, str(run.get({"run": "name"}.get(by, by), "")))
