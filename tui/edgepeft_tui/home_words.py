"""What the first screen says: of a run in a few lines, of this machine, and of what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from edgepeft.metrics.names import vocabulary
from edgepeft.utils.quantities import megabytes, number
from edgepeft_tui.job import ACTIVE
from edgepeft_tui.plain_text import plain_line
from edgepeft_tui.verdicts import bundle_name, bundles_of, run_verdict
from edgepeft_tui.words import mark, sparkline

_LONGEST_LINE = 48
_PROVIDERS = {"cpu": "CPU", "cuda": "CUDA", "webgpu": "WebGPU", "trt-rtx": "TensorRT RTX"}
"""Extra to the execution provider that it brings."""


@dataclass(frozen=True)
class Next:
    """What to do next, in markup of one line, and the place that it leads to."""

    words: str
    place: str


def next_step(
    runs: Sequence[Mapping[str, Any]], draft: tuple[str, str, float] | None = None
) -> Next:
    """What fits the state: of runs, newest first, and the latest draft (its name, what it is kept as, its time).

    What was worked on last counts: a draft, or the newest run.
    """
    latest = runs[0] if runs else None
    at_work = next((run for run in runs if run.get("state") in ACTIVE), None)
    if at_work is not None:
        return Next(f"watch {_name(at_work)} as it is built", f"run:{at_work['path']}")
    if draft is not None and (latest is None or draft[2] >= _moment(latest)):
        name, kept_as, _ = draft
        return Next(f"go on with the draft [b]{plain_line(name)}[/b]", f"draft:{kept_as}")
    if latest is None:
        return Next("[b]the demo[/b], in two keys: Enter, and Enter again", "demo")
    state, path = str(latest.get("state", "")), latest["path"]
    if state in ("interrupted", "killed"):
        how = "stopped" if state == "interrupted" else state
        return Next(f"resume {_name(latest)}, which was {how}", f"run:{path}")
    if state == "gate missed":
        return Next(f"see what to try: {_name(latest)} missed a gate", f"result:{path}")
    for run in runs:
        for bundle in bundles_of(run):
            return Next(f"chat with what {_name(run)} has built", f"chat:{bundle['path']}")
    return Next(f"see why {_name(latest)} is {plain_line(state)}", f"run:{path}")


def _name(run: Mapping[str, Any]) -> str:
    return f"[b]{plain_line(run.get('name', ''))}[/b]"


def _moment(run: Mapping[str, Any]) -> float:
    """When a run was begun, 0 where its record doesn't say."""
    try:
        began = datetime.fromisoformat(str(run.get("started", "")))
        return (began if began.tzinfo else began.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def run_prompt(run: Mapping[str, Any], losses: Sequence[float], width: int) -> str:
    """A run in two or three lines: its verdict, its loss as a sparkline, what it has built."""
    state, words = run_verdict(run)
    began = str(run.get("started", ""))[:16].replace("T", " ")
    about = plain_line(f"{words}, {began}" if began else words)
    lines = [f"{mark(state)} [b]{plain_line(run.get('name', ''))}[/b]  [$muted]{about}[/]"]
    if len(losses) > 1:
        first, last = number(losses[0], 2), number(losses[-1], 2)
        drawn = sparkline(losses, min(_LONGEST_LINE, width - len(first) - len(last) - 9))
        lines.append(f"  [$muted]loss[/] {first} [$bar]{drawn}[/] {last}")
    for bundle in bundles_of(run)[:1]:
        lines.append(f"  [$muted]{plain_line(_built(bundle))}[/]")
    return "\n".join(lines)


def _built(bundle: Mapping[str, Any]) -> str:
    said = f"{bundle_name(bundle)}  {megabytes(bundle['bytes'])}"
    facts = bundle["fidelity"]
    if facts:
        # As many as a line has room for; the result has all.
        columns = vocabulary(facts).columns[:2]
        figures = (f"{one.title} {number(one.of(facts), one.digits)}" for one in columns)
        said += f"  {', '.join(figures)}"
    return said


def machine_lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What ``edgepeft doctor`` knows of this machine, in pairs of name and words."""
    machine = facts["hardware"]
    free, total = machine["free_memory_bytes"], machine["memory_bytes"]
    found = [name for extra, name in _PROVIDERS.items() if _complete(facts, extra)]
    lines = [
        ("processor", f"{machine['processor']}, {machine['cores']} cores"),
        ("memory", f"{megabytes(free)} free of {megabytes(total)}"),
        ("disk", f"{megabytes(machine['free_disk_bytes'])} free"),
        ("gpu", "; ".join(machine["gpus"]) or "none found"),
        ("providers", ", ".join(found) or "none installed"),
    ]
    if wrong := facts["problems"]:
        lines.append(("problems", f"{len(wrong)}: d shows what is wrong"))
    return lines


def _complete(facts: Mapping[str, Any], extra: str) -> bool:
    return bool(facts["extras"].get(extra, {}).get("complete"))
