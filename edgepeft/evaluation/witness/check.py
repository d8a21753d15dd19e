"""A bundle, and the reference, held against what the second witness wrote down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgepeft.bundle_layout import GENAI
from edgepeft.evaluation.witness.probes import Statement
from edgepeft.evaluation.witness.stage import WitnessRecord
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.devices import CPU
from edgepeft.runtime.encoder import EncoderSession, pool
from edgepeft.runtime.engine import GREEDY, load_model, new_generator
from edgepeft.runtime.logits import GraphSession
from edgepeft.runtime.plain import PlainModel
from edgepeft.tasks import CLASSIFICATION, GENERATION

AT_ONCE = 256
"""Tokens whose logits over the whole vocabulary are in memory together."""

LogitsAt = Callable[[Statement], torch.Tensor]
"""Logits float32 [positions, V or more] of a text at its positions; further columns are virtual tokens'."""


@dataclass(frozen=True)
class Agreement:
    """How far logits are from the witness's, and at how many positions they were compared.

    ``difference`` is the largest one, as a share of the root mean square of the witness's logits where that is
    above one; infinite where a logit is no number. ``kl`` is the mean KL(witness || other) in nats.
    """

    difference: float
    positions: int
    kl: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """JSON form; a difference that is no number is null there."""
        finite = np.isfinite(self.difference)
        return {
            "difference": self.difference if finite else None,
            "positions": self.positions,
        }


def agreement(pairs: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> Agreement:
    """What pairs of the witness's logits and others, float32 [positions, V] each, come to."""
    largest, positions, divergence = 0.0, 0, 0.0
    for wanted, found in pairs:
        largest = max(largest, difference(wanted, found))
        positions += len(wanted)
        log_p, log_q = wanted.log_softmax(-1), found.log_softmax(-1)
        divergence += float((log_p.exp() * (log_p - log_q)).sum(dtype=torch.float64).clamp(min=0))
    return Agreement(largest, positions, divergence / max(1, positions))


def difference(wanted: torch.Tensor, found: torch.Tensor) -> float:
    """The largest difference of two sets of logits, as ``Agreement`` has it."""
    if wanted.shape != found.shape or not torch.isfinite(found).all():
        return float("inf")
    scale = max(1.0, float(wanted.square().mean().sqrt()))
    return float((wanted - found).abs().max()) / scale


def held(testimony: WitnessRecord, logits_at: LogitsAt, chosen: slice = slice(None)) -> Agreement:
    """Hold logits against the witness's, over all texts or some of them."""
    pairs = zip(testimony.statements[chosen], testimony.logits[chosen], strict=True)
    return agreement((wanted, logits_at(one)[:, : wanted.shape[1]]) for one, wanted in pairs)


def graph_logits(
    bundle: Bundle, longest: int, provider: str = CPU, adapter: Path | None = None
) -> LogitsAt:
    """Logits out of a bundle's graph, read in pieces through one cache; ``longest`` is the most tokens of a text.

    ``adapter`` is a file of factors for a bundle that takes them.
    """
    session = GraphSession(bundle, providers=[provider], adapter=adapter)
    lead = list(bundle.virtual_ids)
    capacity = longest + len(lead)

    def logits_at(statement: Statement) -> torch.Tensor:
        read = session.reader(capacity)
        ids = [*lead, *statement.ids]
        rows = []
        for start in range(0, len(ids), AT_ONCE):
            part = ids[start : start + AT_ONCE]
            logits = read(part, start, len(ids))
            at = [p + len(lead) - start for p in statement.positions]
            rows.append(torch.from_numpy(logits[[p for p in at if 0 <= p < len(part)]]))
        return torch.cat(rows)

    return logits_at


def encoder_outputs(bundle: Bundle, provider: str = CPU) -> LogitsAt:
    """What an encoder's bundle says of a text: logits at its positions, or its vector."""
    session = EncoderSession(bundle, providers=[provider])
    pooling = bundle.manifest["result"].get("pooling")

    def outputs_at(statement: Statement) -> torch.Tensor:
        found = session.run(statement.ids)
        if pooling is not None:
            found = pool(found, **pooling)[None]
        elif bundle.task == CLASSIFICATION:
            found = found[None]
        else:
            found = found[statement.positions]
        return torch.from_numpy(found.copy())

    return outputs_at


def bundle_facts(
    bundle: Bundle, testimony: WitnessRecord, factors: Path | None = None
) -> dict[str, Any]:
    """How a float bundle stands against the witness: ``graph``, and each of ``engines`` by its name.

    Engines take adapters in a way of their own, so with ``factors`` the graph alone is asked.
    """
    if bundle.task != GENERATION:
        return {"graph": held(testimony, encoder_outputs(bundle)).as_dict(), "engines": {}}
    longest = len(testimony.statements[-1].ids)
    graph = held(testimony, graph_logits(bundle, longest, adapter=factors))
    engines = {}
    if factors is None:
        for name in engines_of(bundle):
            engines[name] = engine_agreement(bundle, testimony, name).as_dict()
    return {"graph": graph.as_dict(), "engines": engines}


def engines_of(bundle: Bundle) -> tuple[str, ...]:
    """The runtimes that edgepeft answers a bundle with, or could after its layout is changed."""
    return ("onnxruntime-genai", "onnxruntime") if GENAI in bundle.runtimes else ("onnxruntime",)


def engine_agreement(bundle: Bundle, testimony: WitnessRecord, engine: str) -> Agreement:
    """Hold a runtime's own reading of the long text against the witness: whole, and token by token over each
    limit.
    """
    stops: tuple[int, ...] = ()
    model: Any = (
        PlainModel(bundle, stops, provider=CPU)
        if engine == "onnxruntime"
        else load_model(bundle, stops, threads=None, provider=CPU)
    )
    lead = list(bundle.virtual_ids)
    text = testimony.statements[-1].ids

    def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for stretch in _stretches(testimony):
            generator = new_generator(model, len(text) + len(lead), GREEDY)
            read = 0
            for tokens in stretch:
                ids = [*([] if read else lead), *text[read:tokens]]
                generator.append_tokens(np.array(ids, np.int32))
                read = tokens
                wanted = testimony.after(tokens)
                last = np.asarray(generator.get_logits(), np.float32).reshape(-1)[: len(wanted)]
                yield wanted[None], torch.from_numpy(last)[None]

    return agreement(pairs())


def _stretches(testimony: WitnessRecord) -> list[Sequence[int]]:
    """Lengths of the long text at which a runtime's answer is looked at, in the order in which it reads them."""
    length = len(testimony.statements[-1].ids)
    around = [
        range(limit - 1, limit + 3)
        for limit in testimony.limits.all
        if limit > 1 and limit + 2 <= length
    ]
    return [*around, [length]]
