"""A bundle, and the reference, held against what the second witness wrote down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgepeft.bundle.layout import GENAI, ORT
from edgepeft.evaluation.results import Difference, GraphFacts
from edgepeft.evaluation.witness.probes import Statement
from edgepeft.evaluation.witness.stage import WitnessRecord
from edgepeft.models.tasks import EMBEDDING, GENERATION, OF_WHOLE_TEXTS
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.decoder_session import GraphSession
from edgepeft.runtime.devices import CPU
from edgepeft.runtime.encoder import EncoderSession
from edgepeft.runtime.engine import load_model, new_generator
from edgepeft.runtime.pieces import at_once
from edgepeft.runtime.plain import PlainModel
from edgepeft.runtime.pooling import Pooler
from edgepeft.runtime.search_options import GREEDY

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

    def told(self) -> Difference:
        """As a report has it; a difference that is no number is None there."""
        finite = np.isfinite(self.difference)
        return Difference(difference=self.difference if finite else None, positions=self.positions)


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


def graph_logits(session: GraphSession, lead: Sequence[int]) -> LogitsAt:
    """Logits out of a bundle's graph, read in pieces through one cache, with ``lead`` before every text."""

    def logits_at(statement: Statement) -> torch.Tensor:
        rows, start = [], 0
        at = [position + len(lead) for position in statement.positions]
        for logits in session.in_pieces([*lead, *statement.ids], at_once(session.vocab_size)):
            here = [p - start for p in at if 0 <= p - start < len(logits)]
            rows.append(torch.from_numpy(logits[here]))
            start += len(logits)
        return torch.cat(rows)

    return logits_at


def encoder_outputs(bundle: Bundle, provider: str = CPU) -> LogitsAt:
    """What an encoder's bundle says of a text: logits at its positions, or its vector."""
    session = EncoderSession(bundle, providers=[provider])
    pooler = Pooler.of_bundle(bundle) if bundle.task == EMBEDDING else None

    def outputs_at(statement: Statement) -> torch.Tensor:
        found = session.run(statement.ids, statement.types)
        if pooler is not None:
            found = pooler(found)[None]
        elif bundle.task in OF_WHOLE_TEXTS:
            found = found[None]
        else:
            found = found[statement.positions]
        return torch.from_numpy(found.copy())

    return outputs_at


def bundle_facts(
    bundle: Bundle, testimony: WitnessRecord, factors: Path | None = None
) -> GraphFacts:
    """How a float bundle stands against the witness: ``graph``, and each of ``engines`` by its name.

    Engines take adapters in a way of their own, so with ``factors`` the graph alone is asked.
    """
    if bundle.task != GENERATION:
        return GraphFacts(graph=held(testimony, encoder_outputs(bundle)).told())
    session = GraphSession(bundle, providers=[CPU], adapter=factors)
    graph = held(testimony, graph_logits(session, bundle.virtual_ids))
    del session
    engines = {}
    if factors is None:
        for name in engines_of(bundle):
            engines[name] = engine_agreement(bundle, testimony, name).told()
    return GraphFacts(graph=graph.told(), engines=engines)


def engines_of(bundle: Bundle) -> tuple[str, ...]:
    """The runtimes that edgepeft answers a bundle with, or could after its layout is changed."""
    return (GENAI, ORT) if GENAI in bundle.runtimes else (ORT,)


def engine_agreement(bundle: Bundle, testimony: WitnessRecord, engine: str) -> Agreement:
    """Hold a runtime's own reading of the long text against the witness: whole, and token by token over each
    window of attention.

    Where rotary factors switch, texts on both sides are read whole, and onnxruntime-genai must decode over it as
    plain onnxruntime does, which can be told every token.
    """
    model = _open(bundle, engine)
    lead = list(bundle.virtual_ids)
    text = testimony.statements[-1].ids

    def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for stretch in _stretches(testimony, token_by_token=engine == ORT):
            generator = new_generator(model, len(text) + len(lead), GREEDY)
            read = 0
            for tokens in stretch:
                ids = [*([] if read else lead), *text[read:tokens]]
                generator.append_tokens(np.array(ids, np.int32))
                read = tokens
                wanted = testimony.after(tokens)
                last = np.asarray(generator.get_logits(), np.float32).reshape(-1)[: len(wanted)]
                yield wanted[None], torch.from_numpy(last)[None]

    found = agreement(pairs())
    switch = testimony.limits.switch
    if engine == GENAI and switch is not None and switch + _DECODED <= len(text):
        prompt = text[: switch - 2]
        answers = [_decoded(one, prompt) for one in (model, _open(bundle, ORT))]
        if answers[0] != answers[1]:
            return replace(found, difference=float("inf"))
    return found


_DECODED = 6
"""Tokens decoded over a switch of rotary factors."""


def _open(bundle: Bundle, engine: str) -> Any:
    if engine == ORT:
        return PlainModel(bundle, (), provider=CPU)
    return load_model(bundle, (), threads=None, provider=CPU)


def _decoded(model: Any, prompt: Sequence[int]) -> list[int]:
    """The likeliest tokens after a prompt."""
    generator = new_generator(model, len(prompt) + _DECODED, GREEDY)
    generator.append_tokens(np.array(prompt, np.int32))
    for _ in range(_DECODED):
        generator.generate_next_token()
    return list(map(int, generator.get_sequence(0)))


def _stretches(testimony: WitnessRecord, *, token_by_token: bool) -> list[Sequence[int]]:
    """Lengths of the long text at which a runtime's answer is looked at, in the order in which it reads them.

    ``token_by_token`` says whether it may be given tokens one by one where rotary factors switch.
    """
    length = len(testimony.statements[-1].ids)
    found: list[Sequence[int]] = [[length]]
    for limit in testimony.limits.all:
        around = [n for n in range(limit - 1, limit + 3) if 0 < n <= length]
        apart = limit == testimony.limits.switch and not token_by_token
        found += [[n] for n in around] if apart else [around]
    return [stretch for stretch in found if stretch]
