"""Two runs side by side: what their bundles measure, with the better one of each figure marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepeft.metrics.names import vocabulary
from edgepeft.utils.quantities import megabytes, number
from edgepeft_tui.plain_text import cut, plain, visible_line
from edgepeft_tui.verdicts import bundle_name, bundles_of
from edgepeft_tui.words import mark

_SIGN = 3
"""Cells of the sign of the better one between two blanks."""


@dataclass(frozen=True)
class Compared:
    """A figure of two bundles in words; ``better`` is 0 or 1, None where neither is or one is missing."""

    name: str
    values: tuple[str, str]
    better: int | None


def compared(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[Compared]]:
    """By target, the figures of the bundles that two runs have both built, those measured in the same way."""
    left, right = ({bundle_name(b): b for b in bundles_of(run)} for run in (one, other))
    return {name: list(_figures(left[name], right[name])) for name in left if name in right}


def _figures(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Compared]:
    sizes = (one["bytes"], other["bytes"])
    yield Compared("size", (megabytes(sizes[0]), megabytes(sizes[1])), _better(sizes, lower=True))
    facts = (one["fidelity"] or {}, other["fidelity"] or {})
    words, others = (vocabulary(of) for of in facts)
    if not all(facts) or words is not others:
        return
    for column in (*words.columns, words.rate):
        values = (column.of(facts[0]), column.of(facts[1]))
        if values != (None, None):
            said = (number(values[0], column.digits), number(values[1], column.digits))
            # A divergence is a distance; every other measure is a likeness, a share or a speed.
            lower = column.measure.endswith("_kl")
            yield Compared(column.title, said, _better(values, lower=lower))
    gates = ("passed" if bundle["gates"] == "passed" else "missed" for bundle in (one, other))
    said = (next(gates), next(gates))
    yield Compared("gates", said, None if said[0] == said[1] else said.index("passed"))


def _better(values: tuple[float | None, float | None], *, lower: bool) -> int | None:
    one, other = values
    if one is None or other is None or one == other:
        return None
    return int((other < one) if lower else (other > one))


def compared_markup(
    names: tuple[str, str], found: Mapping[str, Sequence[Compared]], room: int
) -> str:
    """The figures in columns of ``room`` cells in all, long names cut."""
    figures = [figure for of in found.values() for figure in of]
    if not figures:
        return "[$muted]They have built no bundle for the same target.[/]"
    first = max(len(figure.name) for figure in figures)
    least = max(len(value) for figure in figures for value in figure.values) + _SIGN
    wanted = max(least, *(len(visible_line(name)) + _SIGN for name in names))
    width = max(least, min(wanted, (room - first - 2) // 2))
    heads = "".join(plain(cut(name, width - 1).rjust(width)) for name in names)
    lines = [f"{' ' * first}  [b]{heads}[/b]"]
    for target, of in found.items():
        lines.append(f"[$text-accent]{plain(cut(target, room))}[/]")
        for figure in of:
            cells = "".join(
                f"{'':{width - len(value) - 2}}"
                f"{mark('passed') if at == figure.better else ' '} {plain(value)}"
                for at, value in enumerate(figure.values)
            )
            lines.append(f"[$muted]{plain(f'{figure.name:<{first}}')}[/]  {cells}")
    return "\n".join([*lines, f"{mark('passed')} [$muted]the better one[/]"])
