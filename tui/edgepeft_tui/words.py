"""Figures and states in words and marks, the same on every screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.text import Text

from edgepeft.utils.quantities import duration, megabytes
from edgepeft_tui.plain_text import plain, plain_line, visible_line

HANG = "\u2060"
"""Stands in a line of markup where its further lines begin when it is wrapped; it is never shown."""

MARKS = {
    "waiting": ("·", "$muted"),
    "starting": ("▸", "$text-accent"),
    "running": ("▸", "$text-accent"),
    "done": ("✓", "$text-success"),
    "passed": ("✓", "$text-success"),
    "reused": ("=", "$text-success"),
    "stopping": ("□", "$text-warning"),
    "failed": ("✗", "$text-error"),
    "damaged": ("✗", "$text-error"),
    "gate missed": ("✗", "$text-error"),
    "missed": ("✗", "$text-error"),
    "stopped": ("■", "$text-warning"),
    "interrupted": ("■", "$text-warning"),
    "killed": ("■", "$text-warning"),
    "invalid": ("✗", "$text-error"),
    "unopened": ("○", "$muted"),
    "open": ("·", "$muted"),
    "warning": ("!", "$text-warning"),
}
_BLOCKS = "▁▂▃▄▅▆▇█"
UNKNOWN = ("?", "$muted")


def mark(state: str) -> str:
    """A state's mark as markup: a sign of its own, and a colour for those who see it."""
    sign, colour = MARKS.get(state, UNKNOWN)
    return f"[{colour}]{sign}[/]"


def marked(state: str, words: str) -> str:
    """A state's mark and markup beside it, of which further lines stand under the words."""
    return f"{mark(state)} {HANG}{words}"


def cell(state: str, words: str, colours: Mapping[str, str]) -> Text:
    """A state's mark and some words for a table, whose cells know no markup of ours."""
    sign, name = MARKS.get(state, UNKNOWN)
    return Text.assemble((sign, colours[name.removeprefix("$")]), f" {visible_line(words)}")


def meter(share: float, width: int) -> str:
    """How much of a whole is done or in use, as a line of ``width`` cells in markup."""
    full = round(min(1.0, max(0.0, share)) * width)
    return f"[$bar]{'━' * full}[/][$rule]{'─' * (width - full)}[/]"


def sparkline(values: Sequence[float], width: int) -> str:
    """Values as a row of ``width`` blocks, each the mean of those that fall into it, or the nearest one."""
    edges = [(len(values) * cell // width) for cell in range(width + 1)] if values else []
    parts = [values[a : max(a + 1, b)] for a, b in pairwise(edges)]
    means = [sum(part) / len(part) for part in parts]
    low, high = min(means, default=0.0), max(means, default=0.0)
    # One that never moves lies in the middle.
    shares = [(mean - low) / (high - low) if high > low else 0.5 for mean in means]
    return "".join(_BLOCKS[round(share * (len(_BLOCKS) - 1))] for share in shares)


def near(path: Path | str) -> str:
    """A path as a user in the working folder would type it."""
    path, here = Path(path), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def size(number: float) -> str:
    """Bytes as people read them, small ones too."""
    return megabytes(number) if number >= 1e5 else f"{number / 1e3:.1f} kB"


def count(number: float) -> str:
    """A number of things as people read it: 134.5 M, 8.2 k."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:g}"


def model_lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of a model from its headers, as pairs of name and words."""
    lines = [
        ("architecture", str(facts["architecture"])),
        ("parameters", f"{count(facts['parameters'])} in {facts['layers']} layers"),
        ("stored as", f"{facts['dtype']}, {megabytes(facts['file_bytes'])}"),
        (
            "embeddings",
            "tied with the head" if facts["tied_embeddings"] else "separate from the head",
        ),
        ("context", f"{facts['context_length']} tokens"),
        ("licence", str(facts["licence"] or "not stated")),
    ]
    return lines


def estimate_lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A plan's rough costs, as pairs of name and words."""
    lines: list[tuple[str, str]] = []
    if facts["trainable_parameters"] is not None:
        share = facts["trainable_parameters"] / facts["model"]["parameters"]
        trained = count(facts["trainable_parameters"])
        lines.append(("trainable", f"{trained} parameters, {100 * share:.1f} %"))
    need, free = facts["peak_memory_bytes"], facts["free_memory_bytes"]
    lines.append(("memory", f"{megabytes(need)} of {megabytes(free)} free"))
    lines.append(("", "✓ fits" if need < free else "✗ does not fit"))
    for part, size in (facts["training_memory"] or {}).items():
        lines.append((f"  {part}", megabytes(size)))
    lines.append(("time", f"about {duration(facts['seconds'])}"))
    for stage in facts["stages"]:
        if stage["stage"] == "train" and not stage["reused"]:
            lines.append(("  training", f"{duration(stage['seconds'])}, {facts['steps']} steps"))
    lines.append(
        ("disk", f"{megabytes(facts['disk_bytes'])} of {megabytes(facts['free_disk_bytes'])} free")
    )
    for bundle in facts["bundles"]:
        lines.append((bundle["target"], f"bundle of {megabytes(bundle['bytes'])}"))
    return lines


def pairs(lines: list[tuple[str, str]], width: int = 13) -> str:
    """Pairs as markup, names muted and aligned; ``width`` grows with the longest name."""
    shown = [(visible_line(name), words) for name, words in lines]
    width = max([width, *(len(name) for name, _ in shown)])
    return "\n".join(
        f"[$muted]{plain(f'{name:<{width}}')}[/] {HANG}{plain_line(words)}" for name, words in shown
    )
