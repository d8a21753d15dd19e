"""The gates: bounds a bundle must hold for the build to count as done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepeft.target_sections import Gates


def missed_gates(measures: Mapping[str, Any], gates: Gates) -> list[str]:
    """One line for each gate that the measures miss, naming the gate, the value and the bound.

    A gate whose measure a task does not have does not apply: exact match without completions, say.
    """
    missed = []
    for share in ("exact_match", "accuracy", "span_f1"):
        bound = getattr(gates, f"max_{share}_drop")
        value, trained = measures.get(share), measures.get(f"reference_{share}")
        if bound is None or value is None or trained is None:
            continue
        # One row in floating point must not decide.
        if trained - value > bound + 1e-9:
            missed.append(
                f"max_{share}_drop: {trained - value:.4f} > {bound:g} "
                f"(reference {trained:.3f}, bundle {value:.3f})"
            )
    for gate, measure in (
        ("min_exact_match", "exact_match"),
        ("min_cosine_similarity", "cosine_similarity"),
    ):
        bound, value = getattr(gates, gate), measures.get(measure)
        if bound is not None and value is not None and not value >= bound:
            missed.append(f"{gate}: {value:.4f} < {bound:g}")
    for measure in ("task_kl", "generic_kl"):
        bound, value = getattr(gates, f"max_{measure}"), measures.get(measure)
        if bound is not None and value is not None and not value <= bound:
            missed.append(f"max_{measure}: {value:.4f} > {bound:g}")
    return missed
