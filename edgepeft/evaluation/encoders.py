"""Reference and verification of encoders: the unmerged adapter in torch, and the finished graph in onnxruntime.

As for models that generate, the reference is transformers and PEFT alone, in float32, and the bundle is measured
through the runtime that ships.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.checkpoints.base_stage import EncoderFacts
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import auto_class, model_config
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.evaluation.execution import Agreement, agreed, statement
from edgepeft.evaluation.graph_variants import with_float_products, without_accuracy_level
from edgepeft.evaluation.lost_rows import write_lost
from edgepeft.evaluation.measures import MEASURES_OF, EncoderMeasures, WrongAnswer
from edgepeft.evaluation.probes import test_rows
from edgepeft.evaluation.reference import adapted
from edgepeft.evaluation.results import WitnessFacts
from edgepeft.evaluation.settings import ReferenceSettings, VerifySettings
from edgepeft.evaluation.verify import MEASURES
from edgepeft.evaluation.witness.check import agreement, encoder_outputs
from edgepeft.evaluation.witness.stage import WitnessRecord
from edgepeft.evaluation.witness.verdict import witness_facts
from edgepeft.metrics.encoder_examples import Example, encode_row, open_encoder
from edgepeft.metrics.encoders import Quality, answers, closeness, quality
from edgepeft.metrics.generation import recovery, wilson_interval
from edgepeft.models.tasks import EMBEDDING, ENCODER_TASKS
from edgepeft.runs.folder import write_json
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.devices import CPU
from edgepeft.runtime.encoder import EncoderSession, pool
from edgepeft.stages.job import Job, StageResult
from edgepeft.utils.threads import chosen_threads

EXAMPLES = "examples.json"
OUTPUTS = "outputs.safetensors"
_SOFTWARE_TEXTS = 2
"""Texts that a software adapter runs beside the CPU: it takes seconds for each."""

Forward = Callable[[list[int]], torch.Tensor]
"""The graph's output for one text's token ids: logits [C] or [T, C], or token vectors [T, H]."""


class EncoderReferenceResult(StageResult):
    """An encoder bare and with its unmerged adapter; rows, and the targets that are judged in them."""

    base: Quality
    reference: Quality
    rows: int
    targets: int


def reference(job: Job[ReferenceSettings]) -> EncoderReferenceResult:
    """Stage function. Inputs: ``base``, ``adapter`` or ``train``, and ``test``."""
    data, facts = job.settings.data, EncoderFacts.read(job.inputs["base"])
    encoder = open_encoder(job.inputs["base"], data.control_tokens)
    rows = test_rows(job.inputs["test"], data)
    examples = [encode_row(row, facts.task, encoder, facts.labels) for row in rows]
    examples = [one for one in examples if one.positions or one.other]
    if not examples:
        raise InputError(f"{job.inputs['test']}: no test row has anything to judge")
    folder = checkpoint_folder(job.inputs["base"])
    model = auto_class(model_config(folder)).from_pretrained(folder, dtype=torch.float32).eval()
    total = 2 * len(examples)
    job.events.progress(0, total)
    before = [
        _outputs(_torch_forward(model, facts), one, facts)
        for one in job.events.track(examples, total)
    ]
    base = quality(facts.task, before, examples, facts.labels)
    model = adapted(job, model)
    outputs: dict[str, torch.Tensor] = {}
    for index, one in enumerate(examples):
        outputs[str(index)] = _outputs(_torch_forward(model, facts), one, facts).contiguous()
        job.events.progress(len(examples) + index + 1, total)
    own = quality(facts.task, list(outputs.values()), examples, facts.labels)
    if not all(torch.isfinite(one).all() for one in outputs.values()):
        raise EdgepeftError("the model's own outputs are not finite; base or adapter is damaged")
    save_file(outputs, job.out / OUTPUTS)
    record = {
        "examples": [asdict(one) for one in examples],
        "base": asdict(base),
        "reference": asdict(own),
    }
    (job.out / EXAMPLES).write_text(json.dumps(record) + "\n", encoding="utf-8")
    return EncoderReferenceResult(
        base=base,
        reference=own,
        rows=len(examples),
        targets=sum(len(one.targets) or 1 for one in examples),
    )


def verify(job: Job[VerifySettings]) -> EncoderMeasures:
    """Stage function; leaves the measures as a file, too.

    Inputs: ``bundle``, ``reference``, ``base``, ``witness``, and ``float-graph`` where the bundle's weights are
    rounded.
    """
    shipped = Bundle.open(job.inputs["bundle"], check="sizes")
    facts = EncoderFacts.read(job.inputs["base"])
    execution = job.settings.execution
    record = json.loads((job.inputs["reference"] / EXAMPLES).read_text(encoding="utf-8"))
    examples = [Example(**entry) for entry in record["examples"]]
    base, own = (Quality(**record[key]) for key in ("base", "reference"))
    wanted = _stored(job.inputs["reference"] / OUTPUTS, len(examples))
    bundle = shipped
    if execution.provider == CPU != shipped.provider:
        bundle = with_float_products(shipped, job.scratch)
    agreement = None
    if execution.checked is not None:
        agreement = _check_software(shipped, examples, job.scratch)
    witness = _cross_examined(job, bundle, execution.provider, examples, wanted)
    session = EncoderSession(bundle, providers=[execution.provider])
    forward = _session_forward(session)
    forward(examples[0].ids)
    seconds = 0.0
    found: list[torch.Tensor] = []
    for one in job.events.track(examples):
        started = time.perf_counter()
        found.append(_outputs(forward, one, facts))
        seconds += time.perf_counter() - started
    if not all(torch.isfinite(one).all() for one in found):
        raise EdgepeftError("the exported graph's outputs are not finite")
    texts = len(examples) * (2 if facts.task == EMBEDDING else 1)
    mine = quality(facts.task, found, examples, facts.labels)
    targets = sum(len(one.targets) or 1 for one in examples)
    lost = _lost(facts, examples, wanted, found)
    write_lost(job.out, lost)
    main = next(iter(mine.shares))
    measures = MEASURES_OF[facts.task](
        witness=witness,
        **_beside(mine, own, base),
        **closeness(facts.task, wanted, found),
        **{f"{main}_interval": wilson_interval(round(mine.shares[main] * targets), targets)},
        recovery=recovery(base.loss, mine.loss, own.loss),
        task_loss=mine.loss,
        reference_task_loss=own.loss,
        base_task_loss=base.loss,
        rows=len(examples),
        lost=len(lost),
        targets=targets,
        texts_per_second=round(texts / seconds, 1),
        threads=chosen_threads(),
        provider=shipped.provider,
        executed_on=execution.provider,
        execution=statement(execution, agreement),
        not_executed_because=execution.missing,
        software_max_difference=agreement.max_difference if agreement else None,
    )
    write_json(job.out / MEASURES, measures.as_dict())
    return measures


def _cross_examined(
    job: Job[VerifySettings],
    bundle: Bundle,
    provider: str,
    examples: Sequence[Example],
    outputs: Sequence[torch.Tensor],
) -> WitnessFacts | None:
    """What the second witness says of bundle and reference; None where none was asked."""
    if "witness" not in job.inputs:
        return None
    testimony = WitnessRecord.open(job.inputs["witness"])
    shipped = encoder_outputs(bundle, provider)
    facts = witness_facts(testimony, bundle, shipped, job.inputs.get("float-graph"), None)
    own = {tuple(one.ids): found for one, found in zip(examples, outputs, strict=True)}
    agreed = None
    if testimony.of_reference:
        pairs = zip(testimony.statements, testimony.logits, strict=True)
        agreed = agreement(
            # Of a pair of texts the first is the one that was asked about.
            (wanted, own[tuple(one.ids)][: len(wanted)])
            for one, wanted in pairs
            if tuple(one.ids) in own
        ).told()
    return facts.model_copy(update={"reference": agreed})


def _lost(
    facts: EncoderFacts,
    examples: Sequence[Example],
    reference: Sequence[torch.Tensor],
    found: Sequence[torch.Tensor],
) -> list[WrongAnswer]:
    """The rows that the reference's outputs, as ``_outputs`` gives them, answer right and the bundle's don't."""
    theirs, ours = (
        answers(facts.task, outputs, examples, facts.labels) for outputs in (reference, found)
    )
    return [
        WrongAnswer(where=example.where, wanted=their.wanted, got=our.got)
        for example, their, our in zip(examples, theirs, ours, strict=True)
        if their.right and not our.right
    ]


def _beside(mine: Quality, own: Quality, base: Quality) -> dict[str, Any]:
    """Each share of the bundle, with the reference's and the base's under their own names."""
    found: dict[str, Any] = {}
    for name, share in mine.shares.items():
        found[name] = share
        found[f"reference_{name}"] = own.shares[name]
        found[f"base_{name}"] = base.shares[name]
    return found


def _outputs(forward: Forward, example: Example, facts: EncoderFacts) -> torch.Tensor:
    """What an example is judged by: logits float32 [n, C] at its targets, or the vectors [2, H] of its pair."""
    if facts.pooling is not None:
        pair = (example.ids, example.other or [])
        vectors = [pool(forward(ids).numpy(), **asdict(facts.pooling)) for ids in pair]
        return torch.stack([torch.from_numpy(vector) for vector in vectors])
    logits = forward(example.ids)
    return logits[None] if logits.dim() == 1 else logits[example.positions]


def _torch_forward(model: Any, facts: EncoderFacts) -> Forward:
    name = ENCODER_TASKS[facts.task].output

    def forward(ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            outputs = model(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            )
        found: torch.Tensor = getattr(outputs, name)[0]
        return found

    return forward


def _session_forward(session: EncoderSession) -> Forward:
    return lambda ids: torch.from_numpy(session.run(ids).copy())


def _stored(path: Path, count: int) -> list[torch.Tensor]:
    source = SafetensorsSource.from_file(path)
    return [source.load(str(index)) for index in range(count)]


def _check_software(bundle: Bundle, examples: Sequence[Example], scratch: Path) -> Agreement:
    """Run a software adapter and the CPU side by side, both at accuracy level 0. Raises EdgepeftError."""
    subject = without_accuracy_level(bundle, scratch) or bundle
    device, cpu = (EncoderSession(subject, providers=[name]) for name in (bundle.provider, CPU))
    positions, largest = 0, 0.0
    for example in examples[:_SOFTWARE_TEXTS]:
        difference = abs(device.run(example.ids) - cpu.run(example.ids))
        positions += len(example.ids)
        largest = max(largest, float(difference.max()))
    return agreed(bundle, positions, largest, "an output")
