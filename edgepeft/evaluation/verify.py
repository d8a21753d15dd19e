"""The verify stage: the finished graph, through the runtime that ships, against the reference.

Logits of every scored position come out of the bundle's own ONNX file; exact match is real greedy decoding by
onnxruntime-genai over every test row. Who runs the graph is decided in ``execution``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from edgepeft.errors import EdgepeftError
from edgepeft.evaluation.answer_form import answer_form
from edgepeft.evaluation.call_form import call_form
from edgepeft.evaluation.execution import check_software, statement
from edgepeft.evaluation.graph_variants import widened, with_float_products, without_accuracy_level
from edgepeft.evaluation.lost_rows import write_lost
from edgepeft.evaluation.measures import GenerationMeasures, Level0, WrongAnswer
from edgepeft.evaluation.probes import Probe, Question, check_asked
from edgepeft.evaluation.reference_record import Reference
from edgepeft.evaluation.results import WitnessFacts
from edgepeft.evaluation.settings import VerifySettings
from edgepeft.evaluation.torch_model import ANSWER_SLACK
from edgepeft.evaluation.witness.check import graph_logits
from edgepeft.evaluation.witness.stage import WitnessRecord
from edgepeft.evaluation.witness.verdict import reference_facts, witness_facts
from edgepeft.metrics.generation import (
    Comparison,
    could_still_match,
    recovery,
    wilson_interval,
)
from edgepeft.runs.folder import write_json
from edgepeft.runtime.adapters import FACTORS
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.decoder_session import GraphSession
from edgepeft.runtime.devices import CPU
from edgepeft.runtime.generate import Runtime
from edgepeft.runtime.pieces import at_once
from edgepeft.stages.job import Job
from edgepeft.utils.threads import chosen_threads

MEASURES = "measures.json"
FIRST, REST = slice(0, 4), slice(4, None)
"""Probes of each kind: those compared once more at accuracy level 0, and the others."""


def run(job: Job[VerifySettings]) -> GenerationMeasures:
    """Stage function; leaves the measures as a file, too.

    Inputs: ``bundle``, ``reference``, ``base``, and ``adapter`` for one of a hot-swap bundle; ``witness``, and
    ``float-graph`` where the bundle's weights are rounded.
    """
    shipped = Bundle.open(job.inputs["bundle"], check="sizes")
    reference = Reference.open(job.inputs["reference"], job.inputs["base"])
    execution = job.settings.execution
    provider = execution.provider
    io_dtype = shipped.manifest["settings"]["target"]["io_dtype"]
    bundle = shipped
    if io_dtype == "bf16" and provider == CPU:
        bundle = widened(shipped, job.scratch)
    if provider == CPU != shipped.provider:
        bundle = with_float_products(bundle, job.scratch)
    agreement = None
    if execution.checked is not None:
        ids = [*shipped.virtual_ids, *reference.probes("task")[0].ids]
        agreement = check_software(shipped, ids, job.scratch)
    questions = reference.questions()
    counts = [len(reference.probes("task")), len(reference.probes("generic")), len(questions)]
    if shipped.answer_schema is not None:
        counts.append(len(questions))
    counts.append(sum(bool(question.tools) for question in questions))
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        job.events.progress(done, sum(counts))

    adapter = job.inputs.get("adapter")
    factors = adapter / FACTORS if adapter else None
    session = GraphSession(bundle, providers=[provider], adapter=factors)
    job.events.progress(0, sum(counts))
    witness = _cross_examined(job, bundle, session, reference, factors)
    kinds = ("task", "generic")
    lead = list(shipped.virtual_ids)
    first = {kind: _compare(session, reference, kind, lead, FIRST, step) for kind in kinds}
    rest = {kind: _compare(session, reference, kind, lead, REST, step) for kind in kinds}
    del session
    level_0 = _at_level_0(bundle, provider, reference, job.scratch, factors, first)
    runtime = Runtime(bundle, provider=provider)
    if adapter is not None:
        runtime.swap_adapter(adapter.name)
    started = time.monotonic()
    check_asked(questions, runtime.prompter, lead)
    correct, wrong, speed = exact_match(runtime, questions, step, lead)
    decoding = time.monotonic() - started
    missed = {one.where for one in wrong}
    form = (
        answer_form(runtime, questions, runtime.grammar, missed, lead, step)
        if runtime.grammar is not None
        else None
    )
    calls = call_form(runtime, questions, missed, lead, step)
    base, trained = reference.facts("base"), reference.facts("reference")
    failed = set(trained.wrong)
    lost = [one for one in wrong if one.where not in failed]
    write_lost(job.out, lost)
    low, high = wilson_interval(correct, len(questions))
    task, generic = (first[kind] + rest[kind] for kind in kinds)
    measures = GenerationMeasures(
        witness=witness,
        exact_match=correct / len(questions) if questions else None,
        exact_match_interval=(low, high) if questions else None,
        reference_exact_match=trained.exact_match,
        base_exact_match=base.exact_match,
        rows=len(questions),
        lost=len(lost),
        task_kl=task.kl,
        generic_kl=generic.kl,
        top1_agreement=task.top1_agreement,
        generic_top1_agreement=generic.top1_agreement,
        recovery=recovery(base.task_loss, task.loss, task.reference_loss),
        task_loss=task.loss,
        reference_task_loss=task.reference_loss,
        base_task_loss=base.task_loss,
        generic_perplexity=_exp(generic.loss),
        reference_generic_perplexity=_exp(generic.reference_loss),
        task_tokens=task.tokens,
        generic_tokens=generic.tokens,
        tokens_per_second=speed,
        threads=chosen_threads(),
        exact_match_seconds=round(decoding, 2),
        accuracy_level_0=level_0,
        provider=bundle.provider,
        executed_on=provider,
        execution=statement(execution, agreement),
        not_executed_because=execution.missing,
        software_max_difference=agreement.max_difference if agreement else None,
        wrong=tuple(wrong[:5]),
        answer_form=form,
        calls=calls,
    )
    write_json(job.out / MEASURES, measures.as_dict())
    return measures


def _cross_examined(
    job: Job[VerifySettings],
    bundle: Bundle,
    session: GraphSession,
    reference: Reference,
    factors: Path | None,
) -> WitnessFacts | None:
    """What the second witness says of bundle and reference; None where none was asked."""
    if "witness" not in job.inputs:
        return None
    testimony = WitnessRecord.open(job.inputs["witness"])
    shipped = graph_logits(session, bundle.virtual_ids)
    facts = witness_facts(testimony, bundle, shipped, job.inputs.get("float-graph"), factors)
    probes = reference.probes("task")
    agreed = reference_facts(testimony, probes, partial(reference.logits, "task"))
    return facts.model_copy(update={"reference": agreed})


def _exp(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float64).exp())


def _at_level_0(
    bundle: Bundle,
    provider: str,
    reference: Reference,
    scratch: Path,
    adapter: Path | None,
    shipped: Mapping[str, Comparison],
) -> Level0 | None:
    """KL of the first probes with float activations, beside that as ``shipped``; None where the bundle has float
    activations as it is.
    """
    exact = without_accuracy_level(bundle, scratch)
    if exact is None:
        return None
    session = GraphSession(exact, providers=[provider], adapter=adapter)
    lead = list(bundle.virtual_ids)
    task, generic = (
        _compare(session, reference, kind, lead, FIRST, lambda: None).kl
        for kind in ("task", "generic")
    )
    return Level0(
        task_kl=task,
        generic_kl=generic,
        task_kl_as_shipped=shipped["task"].kl,
        generic_kl_as_shipped=shipped["generic"].kl,
    )


def probe_logits(
    session: GraphSession, probe: Probe, lead: list[int], width: int
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Logits float32 [t, width] at some of a probe's scored positions at a time, with ``lead`` before its tokens,
    and which of them these are, counted from the first.

    Further columns are those of virtual tokens, which the reference has none of.
    """
    first, end = (len(lead) + at for at in (probe.positions.start, probe.positions.stop))
    start = 0
    for logits in session.in_pieces([*lead, *probe.ids], at_once(session.vocab_size)):
        low, high = max(first, start), min(end, start + len(logits))
        if low < high:
            found = logits[low - start : high - start, :width]
            yield slice(low - first, high - first), torch.from_numpy(found)
        start += len(logits)


def _compare(
    session: GraphSession,
    reference: Reference,
    kind: str,
    lead: list[int],
    chosen: slice,
    step: Callable[[], None],
) -> Comparison:
    """The graph against the reference over the chosen probes of a kind."""
    comparison = Comparison()
    for index, probe in list(enumerate(reference.probes(kind)))[chosen]:
        targets = torch.tensor(probe.ids[probe.start :])
        for part, logits in probe_logits(session, probe, lead, reference.head.vocabulary):
            if not torch.isfinite(logits).all():
                raise EdgepeftError("the exported graph's logits are not finite")
            comparison.add(reference.logits(kind, index, part), logits, targets[part])
        step()
    return comparison


def exact_match(
    runtime: Runtime, questions: list[Question], step: Any, lead: Sequence[int] = ()
) -> tuple[int, list[WrongAnswer], float | None]:
    """Right answers, the wrong ones (as far as they were decoded), and tokens decoded per second.

    ``lead`` are token ids before every prompt; ``step`` is called after each question.
    """
    correct = 0
    wrong: list[WrongAnswer] = []
    tokens, seconds = 0, 0.0
    decode = runtime.prompter.decode
    for question in questions:
        wanted, times = question.text, [0.0, 0.0]

        def departed(ids: list[int], wanted: str = wanted, times: list[float] = times) -> bool:
            now = time.perf_counter()
            times[0], times[1] = times[0] or now, now
            return not could_still_match(decode(ids), wanted)

        answer = runtime.generate_ids(
            [*lead, *question.prompt],
            max_new_tokens=len(question.completion) + ANSWER_SLACK,
            stop_when=departed,
        )
        tokens += max(0, len(answer) - 1)
        seconds += times[1] - times[0]
        text = decode(answer).strip()
        if text == wanted:
            correct += 1
        else:
            wrong.append(WrongAnswer(where=question.where, wanted=wanted, got=text))
        step()
    return correct, wrong, round(tokens / seconds, 1) if seconds and tokens else None
