"""The gates: bounds a bundle must hold for the build to count as done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepeft.config.target_sections import Gates

FLOAT_KL = {"fp32": 1e-5, "nf4": 1e-5, "fp16": 1e-3}
"""Divergence in nats per token that targets of these precisions may have where a recipe says nothing: their graph
computes what the reference does, up to the rounding of its floating point.
"""

_SHARES = ("exact_match", "accuracy", "span_f1", "retrieval_accuracy")
_BETTER = 0.01
"""Share of right answers by which a reference that is no likelier may still be better than its base."""


def for_precision(gates: Gates, precision: str) -> Gates:
    """The gates of a target whose bundle is to be the reference: bounds on divergence that the recipe leaves open
    are those of its ``precision``.
    """
    bound = FLOAT_KL.get(precision)
    if bound is None:
        return gates
    bounds = {"max_task_kl": bound, "max_generic_kl": bound, "min_cosine_similarity": 1 - bound}
    unsaid = {key: value for key, value in bounds.items() if key not in gates.model_fields_set}
    return gates.model_copy(update=unsaid)


def missed_gates(measures: Mapping[str, Any], gates: Gates) -> list[str]:
    """One line for each gate that the measures miss, naming the gate, the value and the bound.

    A gate whose measure a task does not have does not apply: exact match without completions, say.
    """
    missed = _unlike_the_witness(measures.get("witness"), gates.max_float_difference)
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
            missed.append(f"max_{measure}: {_digits(value)} > {bound:g}")
    if gates.min_reference_gain is not None:
        little = learned_little(measures, gates.min_reference_gain)
        if little is not None:
            missed.append(f"min_reference_gain: {little}")
    return missed


def _digits(value: float) -> str:
    """Four digits behind the point, or as many as a small figure takes."""
    return f"{value:.4f}" if value >= 1e-3 else f"{value:.2g}"


def learned_little(measures: Mapping[str, Any], bound: float = 0.01) -> str | None:
    """Why the reference counts as hardly better than its base, in one line; None where it is better.

    ``bound`` is in nats per token, or per text or word of a classifier.
    """
    base, trained = measures.get("base_task_loss"), measures.get("reference_task_loss")
    # What is no number is no gain.
    if base is None or trained is None or base - trained >= bound:
        return None
    for share in _SHARES:
        before, after = measures.get(f"base_{share}"), measures.get(f"reference_{share}")
        if before is not None and after is not None and after - before >= _BETTER:
            return None
    return (
        f"{base - trained:.2g} < {bound:g} (the adapter's loss on test rows is {trained:.4f}, the base's without "
        f"it {base:.4f})"
    )


def _unlike_the_witness(facts: Mapping[str, Any] | None, bound: float | None) -> list[str]:
    """Where graph, runtimes or reference are not what transformers and PEFT compute by their own loading."""
    if facts is None or bound is None:
        return []
    found = {
        **({} if facts["compared"] is None else {facts["compared"]: facts["difference"]}),
        **{f"{engine} with it": one["difference"] for engine, one in facts["engines"].items()},
    }
    if facts["reference"] is not None:
        found["the reference"] = facts["reference"]["difference"]
    return [
        f"max_float_difference: {what} is {'no number' if value is None else f'{value:.3g}'} away from "
        f"transformers and PEFT, more than {bound:g}"
        for what, value in found.items()
        if value is None or not value <= bound
    ]
