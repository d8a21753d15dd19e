"""Events in words, for a terminal, a log and a notebook alike."""

from __future__ import annotations

from typing import Any

from edgepeft.data.report_line import describe_data
from edgepeft.events import Event
from edgepeft.utils.quantities import duration
from edgepeft.utils.terminal_text import visible_line


def describe_progress(event: Event) -> str:
    """The figures of a progress event in words: phase, loss, rate."""
    metrics: dict[str, Any] = event.get("metrics", {})
    parts = []
    for key, label, form in (
        ("loss", "loss", "{:.3f}"),
        ("eval_loss", "eval loss", "{:.3f}"),
        ("tokens_per_second", "tok/s", "{:.0f}"),
    ):
        if key in metrics:
            parts.append(f"{label} {form.format(metrics[key])}")
    return "  ".join(parts)


def time_left(event: Event) -> float | None:
    """Seconds left at the rate so far; None in the first fiftieth, when the rate is mostly preparation."""
    step, total, seconds = event.get("step"), event.get("total"), event.get("seconds")
    if not step or not total or seconds is None or step < 0.02 * total:
        return None
    return float(seconds) / int(step) * (int(total) - int(step))


def headline(event: Event) -> str | None:
    """The one line for an event; None for one that has none."""
    line = _words(event)
    return None if line is None else visible_line(line)


def _words(event: Event) -> str | None:
    stage = event["stage"]
    match event["event"]:
        case "started":
            return f"  {stage} …"
        case "reused":
            return f"✓ {stage}  unchanged, reused"
        case "finished":
            memory = event.get("metrics", {}).get("peak_memory_bytes", 0)
            return f"✓ {stage}  {duration(event['seconds'])}, {memory / 1e9:.2f} GB"
        case "data":
            return f"  {describe_data(event['report'])}"
        case "failed":
            return f"✗ {stage}"
        case "message":
            return f"  {stage}: {event['text']}"
        case "warning":
            return f"! {stage}: {event['text']}"
    return None
