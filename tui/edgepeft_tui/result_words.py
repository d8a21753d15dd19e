"""What a build made, as markup: its variants in a comparison, its wrong answers, its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from edgepeft.evaluation.advice_lines import advice_lines
from edgepeft.pipeline.compare import vocabulary_of
from edgepeft.utils.quantities import megabytes, number
from edgepeft_tui.plain_text import plain, plain_line, visible_line
from edgepeft_tui.readings import bar
from edgepeft_tui.verdicts import bundle_name
from edgepeft_tui.words import HANG, mark, near, size

MOST_FILES = 100
"""Files of a bundle that are listed; the folder that a record names may be any."""
_LONGEST_NAME, _BAR = 28, 24
_ANSWERS = 3


def comparison_bars(entries: Sequence[Mapping[str, Any]]) -> str:
    """The variants of a comparison, smallest first, each with its distance from the reference as a bar."""
    measured = [(n, entry) for n, entry in enumerate(entries, 1) if "fidelity" in entry]
    if not measured:
        return ""
    measured.sort(key=lambda numbered: int(numbered[1]["bytes"]))
    distance = vocabulary_of(entries).distance
    most = max(distance.of(entry["fidelity"]) for _, entry in measured)
    names = [visible_line(" ".join(map(str, one["values"].values()))) for _, one in measured]
    width = min(_LONGEST_NAME, max(map(len, names)))
    lines = [f"[$muted] # {'variant':<{width}}      size  {distance.title}[/]"]
    for (index, entry), name in zip(measured, names, strict=True):
        loss = distance.of(entry["fidelity"])
        gate = "passed" if entry["gates"] == "passed" else "missed"
        lines.append(
            f"{index:>2} {plain(f'{name[:width]:<{width}}')} {megabytes(entry['bytes']):>9}  "
            f"{bar(loss / most if most > 0 else 0.0, _BAR)} {number(loss)} {mark(gate)}"
        )
    return "\n".join(lines)


def what_to_try(bundles: Sequence[Mapping[str, Any]]) -> str:
    """What the build advised for bundles that missed a gate, a line each."""
    lines: list[str] = []
    for bundle in bundles:
        if advice := bundle.get("advice"):
            said = advice_lines(bundle_name(bundle), advice)
            lines += (f"{mark('open')} {HANG}{plain(line)}" for line in said)
    return "\n".join(lines)


def wrong_answers(bundles: Sequence[Mapping[str, Any]]) -> str:
    """Answers of bundles, and of the adapters in them, that are not the expected ones; a few of each."""
    lines: list[str] = []
    for bundle in bundles:
        parts = [(bundle["target"], bundle)]
        parts += [(f"{bundle['target']}, {a['name']}", a) for a in bundle.get("adapters", ())]
        for name, part in parts:
            for answer in ((part.get("fidelity") or {}).get("wrong") or [])[:_ANSWERS]:
                lines.append(f"[$muted]{plain_line(name)}, {plain_line(answer['where'])}[/]")
                lines.append(f"  expected {HANG}{plain_line(answer['wanted'])}")
                lines.append(f"  got      {HANG}{plain_line(answer['got'])}")
    return "\n".join(lines)


def files(bundles: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """The folder of each bundle and what lies in it."""
    for bundle in bundles:
        folder = Path(bundle["path"])
        yield f"[b]{plain_line(near(folder))}[/b]  {megabytes(bundle['bytes'])}"
        if not folder.is_dir():
            yield f"  {mark('failed')} this folder is gone"
            continue
        found = list(islice((p for p in folder.rglob("*") if p.is_file()), MOST_FILES + 1))
        for path in sorted(found[:MOST_FILES]):
            bytes_of = size(path.stat().st_size)
            yield f"  [$muted]{bytes_of:>10}[/]  {HANG}{plain_line(path.relative_to(folder))}"
        if len(found) > MOST_FILES:
            yield f"  [$muted]and more than {MOST_FILES} files in all[/]"
