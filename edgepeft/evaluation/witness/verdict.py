"""What the second witness says of a bundle: the part of a fidelity report that shares nothing with what it
proves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from edgepeft.evaluation.probes import Probe
from edgepeft.evaluation.witness.check import (
    agreement,
    bundle_facts,
    encoder_outputs,
    graph_logits,
    held,
)
from edgepeft.evaluation.witness.exact import is_exact
from edgepeft.evaluation.witness.stage import WitnessRecord
from edgepeft.models.tasks import EMBEDDING, GENERATION
from edgepeft.runs.folder import read_manifest
from edgepeft.runtime.bundle import Bundle
from edgepeft.targets import TargetProfile


def witness_facts(
    testimony: WitnessRecord,
    bundle: Bundle,
    provider: str,
    float_graph: Path | None,
    factors: Path | None,
) -> dict[str, Any]:
    """The facts of a bundle, as ``fidelity.json`` keeps them under ``witness``.

    ``compared`` says what was held against the witness in floating point, with ``difference`` and ``engines``:
    the bundle itself, or its float form, of which ``float_graph`` is the finished stage; None for rounded weights
    whose float form is not at hand. ``long_kl`` is the mean
    KL(witness || bundle) on the long text alone, rounding included.
    """
    text = testimony.statements[-1]
    shipped = (
        graph_logits(bundle, len(text.ids), provider, factors)
        if bundle.task == GENERATION
        else encoder_outputs(bundle, provider)
    )
    long = held(testimony, shipped, slice(len(testimony.statements) - 1, None))
    facts: dict[str, Any] = {"graph": {"difference": None, "positions": 0}, "engines": {}}
    compared, seconds = None, 0.0
    if is_exact(TargetProfile.from_dict(bundle.manifest["settings"]["target"])):
        facts, compared = bundle_facts(bundle, testimony, factors), "the bundle"
    elif float_graph is not None:
        facts = (read_manifest(float_graph) or {})["result"]
        compared, seconds = "its graph with float weights", float(facts["seconds"])
    return {
        "compared": compared,
        **facts["graph"],
        "engines": facts["engines"],
        "longest": len(text.ids),
        "limits": list(testimony.limits.all),
        # A vector is no distribution, so an encoder for embeddings has none.
        "long_kl": None if bundle.task == EMBEDDING else long.kl,
        "seconds": round(testimony.seconds + seconds, 2),
    }


def reference_facts(
    testimony: WitnessRecord, probes: Sequence[Probe], logits: Callable[[int], torch.Tensor]
) -> dict[str, Any] | None:
    """How the reference stands against the witness on the rows that both have; None where it means another base.

    ``logits`` gives the reference's own, float32 [scored positions, V], of a probe by its index.
    """
    if not testimony.of_reference:
        return None

    def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for statement, wanted in zip(testimony.statements, testimony.logits, strict=True):
            for index, probe in enumerate(probes):
                if probe.ids == statement.ids:
                    first = probe.positions.start
                    yield wanted, logits(index)[[p - first for p in statement.positions]]
                    break

    return agreement(pairs()).as_dict()
