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
from edgepeft.evaluation.witness.probes import Statement
from edgepeft.evaluation.witness.stage import WitnessRecord
from edgepeft.evaluation.witness.verdict import witness_facts
from edgepeft.metrics.encoder_examples import Example, encode_row, open_encoder
from edgepeft.metrics.encoders import judge_of
from edgepeft.metrics.generation import recovery, wilson_interval
from edgepeft.metrics.judge import Judge, Quality
from edgepeft.models.tasks import EMBEDDING, ENCODER_TASKS
from edgepeft.runs.folder import write_json
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.devices import CPU
from edgepeft.runtime.encoder import EncoderSession
from edgepeft.runtime.pooling import Pooler
from edgepeft.stages.job import Job, StageResult
from edgepeft.utils.threads import chosen_threads

EXAMPLES = "examples.json"
OUTPUTS = "outputs.safetensors"
_SOFTWARE_TEXTS = 2
"""Texts that a software adapter runs beside the CPU: it takes seconds for each."""

Forward = Callable[[list[int], list[int] | None], torch.Tensor]
"""The output for one text's token ids, and their types where two are read together: logits [C] or [T, C], or
token vectors [T, H].
"""


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
    examples, judge = [encode_row(row, facts, encoder) for row in rows], judge_of(facts)
    examples = [one for one in examples if one.positions or one.other]
    if not examples:
        raise InputError(f"{job.inputs['test']}: no test row has anything to judge")
    folder = checkpoint_folder(job.inputs["base"])
    model = auto_class(model_config(folder)).from_pretrained(folder, dtype=torch.float32).eval()
    total = 2 * len(examples)
    job.events.progress(0, total)
    pooler = None if facts.pooling is None else Pooler(facts.pooling, job.inputs["base"])
    before = [
        _outputs(_torch_forward(model, facts), one, pooler)
        for one in job.events.track(examples, total)
    ]
    base = judge.quality(before, examples)
    model = adapted(job, model)
    outputs: dict[str, torch.Tensor] = {}
    for index, one in enumerate(examples):
        outputs[str(index)] = _outputs(_torch_forward(model, facts), one, pooler).contiguous()
        job.events.progress(len(examples) + index + 1, total)
    own = judge.quality(list(outputs.values()), examples)
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
        targets=judge.targets(examples),
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
    pooler = Pooler.of_bundle(shipped) if facts.task == EMBEDDING else None
    forward(examples[0].ids, examples[0].types)
    seconds = 0.0
    found: list[torch.Tensor] = []
    for one in job.events.track(examples):
        started = time.perf_counter()
        found.append(_outputs(forward, one, pooler))
        seconds += time.perf_counter() - started
    if not all(torch.isfinite(one).all() for one in found):
        raise EdgepeftError("the exported graph's outputs are not finite")
    texts = sum(len(one) for one in found) if facts.task == EMBEDDING else len(examples)
    judge = judge_of(facts)
    mine, targets = judge.quality(found, examples), judge.targets(examples)
    lost = _lost(judge, examples, wanted, found)
    write_lost(job.out, lost)
    measures = MEASURES_OF[facts.task](
        witness=witness,
        **_beside(mine, own, base),
        **judge.closeness(wanted, found, examples),
        **_interval(judge, mine, targets),
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
    own = {_key(one): found for one, found in zip(examples, outputs, strict=True)}
    agreed = None
    if testimony.of_reference:
        pairs = zip(testimony.statements, testimony.logits, strict=True)
        agreed = agreement(
            # Of a pair of texts the first is the one that was asked about.
            (wanted, own[_key(one)][: len(wanted)])
            for one, wanted in pairs
            if _key(one) in own
        ).told()
    return facts.model_copy(update={"reference": agreed})


def _key(one: Example | Statement) -> tuple[int, ...]:
    """What tells a text from others. Types are no part of it: the witness makes its own."""
    return tuple(one.ids)


def _interval(judge: Judge, mine: Quality, targets: int) -> dict[str, tuple[float, float]]:
    """The interval of the share that counts right answers."""
    share = mine.shares[judge.counted] if judge.counted is not None else None
    if share is None:
        return {}
    return {f"{judge.counted}_interval": wilson_interval(round(share * targets), targets)}


def _lost(
    judge: Judge,
    examples: Sequence[Example],
    reference: Sequence[torch.Tensor],
    found: Sequence[torch.Tensor],
) -> list[WrongAnswer]:
    """The rows that the reference's outputs, as ``_outputs`` gives them, answer right and the bundle's don't."""
    theirs, ours = (judge.answers(outputs, examples) for outputs in (reference, found))
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


def _outputs(forward: Forward, example: Example, pooler: Pooler | None) -> torch.Tensor:
    """What an example is judged by: logits float32 [n, C] at its targets, or vectors [2 or 3, H] of its texts."""
    if pooler is not None:
        texts = [example.ids, example.other or []]
        texts += [] if example.negative is None else [example.negative]
        vectors = [pooler(forward(ids, None).numpy()) for ids in texts]
        return torch.stack([torch.from_numpy(vector) for vector in vectors])
    logits = forward(example.ids, example.types)
    return logits[None] if logits.dim() == 1 else logits[example.positions]


def _torch_forward(model: Any, facts: EncoderFacts) -> Forward:
    name = ENCODER_TASKS[facts.task].output

    def forward(ids: list[int], types: list[int] | None) -> torch.Tensor:
        told = {} if types is None else {"token_type_ids": torch.tensor([types])}
        with torch.no_grad():
            outputs = model(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
                **told,
            )
        found: torch.Tensor = getattr(outputs, name)[0]
        return found

    return forward


def _session_forward(session: EncoderSession) -> Forward:
    return lambda ids, types: torch.from_numpy(session.run(ids, types).copy())


def _stored(path: Path, count: int) -> list[torch.Tensor]:
    source = SafetensorsSource.from_file(path)
    return [source.load(str(index)) for index in range(count)]


def _check_software(bundle: Bundle, examples: Sequence[Example], scratch: Path) -> Agreement:
    """Run a software adapter and the CPU side by side, both at accuracy level 0. Raises EdgepeftError."""
    subject = without_accuracy_level(bundle, scratch) or bundle
    device, cpu = (EncoderSession(subject, providers=[name]) for name in (bundle.provider, CPU))
    positions, largest = 0, 0.0
    for example in examples[:_SOFTWARE_TEXTS]:
        difference = abs(
            device.run(example.ids, example.types) - cpu.run(example.ids, example.types)
        )
        positions += len(example.ids)
        largest = max(largest, float(difference.max()))
    return agreed(bundle, positions, largest, "an output")
