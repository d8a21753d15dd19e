"""The gates: bounds a bundle must hold for the build to count as done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepeft.recipe import Gates


def missed_gates(measures: Mapping[str, Any], gates: Gates) -> list[str]:
    """One line for each gate that the measures miss, naming the gate, the value and the bound.

    Exact match gates do not apply to tasks without completions (plain text).
    """
    missed = []
    exact, trained = measures["exact_match"], measures["reference_exact_match"]
    if gates.max_exact_match_drop is not None and exact is not None and trained is not None:
        drop = trained - exact
        # One row in floating point must not decide.
        if drop > gates.max_exact_match_drop + 1e-9:
            missed.append(
                f"max_exact_match_drop: {drop:.4f} > {gates.max_exact_match_drop:g} "
                f"(reference {trained:.3f}, bundle {exact:.3f})"
            )
    if gates.min_exact_match is not None and exact is not None and exact < gates.min_exact_match:
        missed.append(f"min_exact_match: {exact:.4f} < {gates.min_exact_match:g}")
    for gate, value in (
        ("max_task_kl", measures["task_kl"]),
        ("max_generic_kl", measures["generic_kl"]),
    ):
        bound = getattr(gates, gate)
        if bound is not None and not value <= bound:
            missed.append(f"{gate}: {value:.4f} > {bound:g}")
    return missed
