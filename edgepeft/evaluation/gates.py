"""The gates: bounds a bundle must hold for the build to count as done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgepeft.config.target_sections import Gates

FLOAT_KL = {"fp32": 1e-5, "nf4": 1e-5, "fp16": 1e-3}
"""Divergence in nats per token that targets of these precisions may have where a recipe says nothing: their graph
computes what the reference does, up to the rounding of its floating point.
"""

DROPS = ("exact_match", "accuracy", "span_f1", "micro_f1", "ndcg", "spearman")
"""Shares that a bundle may have a little less of than the reference."""
_SHARES = (*DROPS, "retrieval_accuracy")
_BETTER = 0.01
"""Share of right answers by which a reference that is no likelier may still be better than its base."""


def for_precision(gates: Gates, precision: str) -> Gates:
    """The gates of a target whose bundle is to be the reference: bounds on divergence that the recipe leaves open
    are those of its ``precision``.
    """
    bound = FLOAT_KL.get(precision)
    if bound is None:
        return gates
    bounds = {
        "max_task_kl": bound,
        "max_generic_kl": bound,
        "min_cosine_similarity": 1 - bound,
        # A divergence is as the square of what makes it.
        "max_score_difference": bound**0.5,
    }
    unsaid = {key: value for key, value in bounds.items() if key not in gates.model_fields_set}
    return gates.model_copy(update=unsaid)


@dataclass(frozen=True)
class Judged:
    """A gate held against the measures of a bundle.

    ``about`` says what a gate that is asked several times was asked of, as each runtime beside the witness;
    ``why`` is the line that a build prints of a missed gate, or why one was not judged.
    """

    gate: str
    state: Literal["passed", "missed", "skipped"]
    bound: float | None
    value: float | None = None
    about: str = ""
    why: str = ""

    @property
    def name(self) -> str:
        """The gate, and what it was asked of."""
        return f"{self.gate}: {self.about}" if self.about else self.gate


_OFF = "no bound: the recipe turns this gate off"
_UNMEASURED = "not measured"


def judged_gates(measures: Mapping[str, Any], gates: Gates) -> list[Judged]:
    """Every gate of the measures' task: passed, missed, or skipped without a bound or without a measure."""
    found = _unlike_the_witness(measures, gates.max_float_difference)
    for share in DROPS:
        if share in measures:
            found.append(_drop(share, measures, getattr(gates, f"max_{share}_drop")))
    for gate, measure in (
        ("min_exact_match", "exact_match"),
        ("min_cosine_similarity", "cosine_similarity"),
        ("min_rank_agreement", "rank_agreement"),
    ):
        if measure in measures:
            bound, value = getattr(gates, gate), measures[measure]
            reached = bound is None or value is None or value >= bound
            why = "" if reached else f"{gate}: {value:.4f} < {bound:g}"
            found.append(_judged(gate, bound, value, why))
    for measure in ("task_kl", "generic_kl", "score_difference"):
        if measure in measures:
            gate, value = f"max_{measure}", measures[measure]
            bound = getattr(gates, gate)
            # Written this way round, what is no number misses.
            within = bound is None or value is None or value <= bound
            why = "" if within else f"{gate}: {_digits(value)} > {bound:g}"
            found.append(_judged(gate, bound, value, why))
    if "base_task_loss" in measures:
        found.append(_gain(measures, gates.min_reference_gain))
    return found


def missed_gates(measures: Mapping[str, Any], gates: Gates) -> list[str]:
    """One line for each gate that the measures miss, naming the gate, the value and the bound.

    A gate whose measure a task does not have does not apply: exact match without completions, say.
    """
    return [one.why for one in judged_gates(measures, gates) if one.state == "missed"]


def _judged(
    gate: str, bound: float | None, value: float | None, missed: str, about: str = ""
) -> Judged:
    """A gate that is missed where there is a line to say of it."""
    if bound is None or value is None:
        why = _OFF if bound is None else _UNMEASURED
        return Judged(gate, "skipped", bound, value, about, why)
    return Judged(gate, "missed" if missed else "passed", bound, value, about, missed)


def _drop(share: str, measures: Mapping[str, Any], bound: float | None) -> Judged:
    """How far a share of right answers lies below the reference's."""
    gate = f"max_{share}_drop"
    value, trained = measures[share], measures.get(f"reference_{share}")
    if bound is None or value is None or trained is None:
        return _judged(gate, bound, None, "")
    # One row in floating point must not decide.
    missed = trained - value > bound + 1e-9
    why = (
        f"{gate}: {trained - value:.4f} > {bound:g} (reference {trained:.3f}, bundle {value:.3f})"
        if missed
        else ""
    )
    return _judged(gate, bound, trained - value, why)


def _gain(measures: Mapping[str, Any], bound: float | None) -> Judged:
    """How far training brought the reference's loss below its base's."""
    gate = "min_reference_gain"
    base, trained = measures["base_task_loss"], measures.get("reference_task_loss")
    if bound is None or base is None or trained is None:
        return _judged(gate, bound, None, "")
    little = learned_little(measures, bound)
    return _judged(gate, bound, base - trained, f"{gate}: {little}" if little else "")


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


def _unlike_the_witness(measures: Mapping[str, Any], bound: float | None) -> list[Judged]:
    """Where graph, runtimes or reference are not what transformers and PEFT compute by their own loading."""
    gate, facts = "max_float_difference", measures.get("witness")
    if facts is None or bound is None:
        # Without a witness nobody was asked.
        return [Judged(gate, "skipped", bound, why=_OFF if bound is None else _UNMEASURED)]
    found = {
        **({} if facts["compared"] is None else {facts["compared"]: facts["difference"]}),
        **{f"{engine} with it": one["difference"] for engine, one in facts["engines"].items()},
    }
    if facts["reference"] is not None:
        found["the reference"] = facts["reference"]["difference"]
    return [_beside_the_witness(what, value, bound) for what, value in found.items()] or [
        Judged(gate, "skipped", bound, why=_UNMEASURED)
    ]


def _beside_the_witness(what: str, value: float | None, bound: float) -> Judged:
    gate = "max_float_difference"
    if value is not None and value <= bound:
        return Judged(gate, "passed", bound, value, what)
    said = "no number" if value is None else f"{value:.3g}"
    why = f"{gate}: {what} is {said} away from transformers and PEFT, more than {bound:g}"
    return Judged(gate, "missed", bound, value, what, why)
