"""The table of a build in the measures of its task: a row a bundle, and one for each adapter that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgepeft.evaluation.witness.words import witness_line
from edgepeft.metrics.names import Column, vocabulary
from edgepeft.utils.quantities import number


def table_rows(bundles: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the fidelity table of a build: base, reference, then each bundle.

    Bundles of a matrix' cells have references of their own, which are left out.
    """
    rows: list[list[str]] = []
    measured = [bundle for bundle in bundles if bundle["fidelity"]]
    words = vocabulary(measured[0]["fidelity"] if measured else {})
    header = ["model", *(c.title for c in words.columns), "MB", words.rate.title, "gates"]
    if measured and "cell" not in measured[0]:
        facts = measured[0]["fidelity"]

        def own(column: Column, who: str, said: str | None) -> str:
            if said is not None:
                return said
            return number(facts[f"{who}_{column.measure}"], column.digits)

        blank = ["–"] * 3
        base = [own(column, "base", column.base) for column in words.columns]
        trained = [own(column, "reference", column.reference) for column in words.columns]
        rows.append(["base, no adapter", *base, *blank])
        rows.append(["reference, unmerged", *trained, *blank])
    for bundle in measured:
        facts = bundle["fidelity"]
        speed = facts.get(words.rate.measure)
        rows.append(
            [
                bundle.get("cell", bundle["target"]),
                *(number(facts.get(c.measure), c.digits) for c in words.columns),
                f"{bundle['bytes'] / 1e6:.0f}",
                "–" if speed is None else f"{speed:.0f}",
                "passed" if bundle["gates"] == "passed" else "MISSED",
            ]
        )
        for adapter in bundle.get("adapters", ()):
            rows.append(_adapter_row(adapter))
    return header, rows


def witness_lines(bundles: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the second witness says of each measured bundle, a line each."""
    return [
        witness_line(str(bundle.get("cell", bundle["target"])), bundle["fidelity"]["witness"])
        for bundle in bundles
        if bundle["fidelity"] and bundle["fidelity"].get("witness")
    ]


def answer_lines(bundles: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the schema of each bundle that has one makes of its answers, a line each."""
    words = {"parse": "parse", "fit": "fit", "exact_match": "exact match"}
    return [
        f"{name}: answers within the schema / free, {_shares(form, words)}"
        for name, form in _forms(bundles, "answer_form")
    ]


def call_lines(bundles: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each bundle calls in rows with tools, a line each."""
    words = {"parse": "parse", "name": "tool", "call": "tool and arguments"}
    lines = []
    for name, form in _forms(bundles, "calls"):
        within, why = "calls within the tools' grammar / free", ""
        if not form["bounded"]:
            within, why = "calls", f" (not within a grammar: {form['unbounded_because']})"
        lines.append(f"{name}: {within}, {_shares(form, words)}{why}")
    return lines


def _forms(
    bundles: Sequence[Mapping[str, Any]], measure: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each bundle's name and what was measured of its answers freely and within a bound, where it was."""
    for bundle in bundles:
        if bundle["fidelity"] and (form := bundle["fidelity"].get(measure)):
            yield str(bundle.get("cell", bundle["target"])), form


def _shares(form: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """Shares of answers, those within a bound first, where there are any."""
    sides = [side for side in (form["bounded"], form["free"]) if side]
    shares = (
        f"{word} " + " / ".join(f"{side[key]:.3f}" for side in sides) for key, word in words.items()
    )
    return f"of {form['rows']} rows: {', '.join(shares)}"


def _adapter_row(adapter: Mapping[str, Any]) -> list[str]:
    facts = adapter.get("fidelity") or adapter
    wanted = facts.get("reference_exact_match")
    return [
        f"  + {adapter['name']}",
        number(facts.get("exact_match"), 3) + (f" of {wanted:.3f}" if wanted is not None else ""),
        number(facts.get("task_kl")),
        number(facts.get("generic_kl")),
        number(facts.get("top1_agreement"), 3),
        number(facts.get("recovery"), 3),
        *("–", "–"),
        {"passed": "passed", None: "–"}.get(
            adapter["gates"] if not isinstance(adapter["gates"], list) else "", "MISSED"
        ),
    ]
