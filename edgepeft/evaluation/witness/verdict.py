"""What the second witness says of a bundle: the part of a fidelity report that shares nothing with what it
proves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from edgepeft.evaluation.probes import Probe
from edgepeft.evaluation.results import Difference, FloatGraphResult, GraphFacts, WitnessFacts
from edgepeft.evaluation.witness.check import (
    LogitsAt,
    agreement,
    bundle_facts,
    held,
)
from edgepeft.evaluation.witness.exact import is_exact
from edgepeft.evaluation.witness.stage import WitnessRecord
from edgepeft.models.tasks import CLASSIFICATION, GENERATION, TAGGING
from edgepeft.runtime.bundle import Bundle
from edgepeft.targets import TargetProfile

_DISTRIBUTIONS = (GENERATION, CLASSIFICATION, TAGGING)
"""Tasks whose logits are of one choice."""


def witness_facts(
    testimony: WitnessRecord,
    bundle: Bundle,
    shipped: LogitsAt,
    float_graph: Path | None,
    factors: Path | None,
) -> WitnessFacts:
    """The facts of a bundle, but for the reference's.

    ``shipped`` gives the logits of what ships; ``float_graph`` is the finished stage of its float form.
    """
    text = testimony.statements[-1]
    long = held(testimony, shipped, slice(len(testimony.statements) - 1, None))
    facts = GraphFacts()
    compared: str | None
    compared, seconds = None, 0.0
    if is_exact(TargetProfile.from_dict(bundle.manifest["settings"]["target"])):
        facts, compared = bundle_facts(bundle, testimony, factors), "the bundle"
    elif float_graph is not None:
        of_float = FloatGraphResult.read(float_graph)
        facts, seconds = of_float, of_float.seconds
        compared = "its graph with float weights"
    return WitnessFacts(
        compared=compared,
        difference=facts.graph.difference,
        positions=facts.graph.positions,
        engines=facts.engines,
        longest=len(text.ids),
        limits=tuple(testimony.limits.all),
        # A vector is no distribution, nor are several choices at once, or a score.
        long_kl=long.kl if bundle.task in _DISTRIBUTIONS else None,
        seconds=round(testimony.seconds + seconds, 2),
    )


def reference_facts(
    testimony: WitnessRecord,
    probes: Sequence[Probe],
    logits: Callable[[int, Sequence[int]], torch.Tensor],
) -> Difference | None:
    """How the reference stands against the witness on the rows that both have; None where it means another base.

    ``logits`` gives the reference's own, float32 [positions, V], of a probe by its index and of those of its
    scored positions, counted from the first, that are asked for.
    """
    if not testimony.of_reference:
        return None

    def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for statement, wanted in zip(testimony.statements, testimony.logits, strict=True):
            for index, probe in enumerate(probes):
                if probe.ids == statement.ids:
                    first = probe.positions.start
                    yield wanted, logits(index, [p - first for p in statement.positions])
                    break

    return agreement(pairs()).told()
