"""The reference stage: the unmerged adapter on the base it was trained on, and the bare original base.

The model is loaded by transformers and adapted by PEFT, in float32; none of our merging code is involved, so an
error there can't hide. What is kept is compact: final hidden states of the scored positions, from which any
bundle's logits can be compared over the whole vocabulary.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors.torch import save_file

from edgepeft.adapters.attach import attach, open_adapter
from edgepeft.adapters.config import is_full
from edgepeft.adapters.provenance import Provenance
from edgepeft.adapters.training_grid import dequantized
from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import (
    context_length,
    head_and_embedding_names,
    linear_weight_names,
)
from edgepeft.checkpoints.source import TensorSource
from edgepeft.data.prompt import Prompter
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.evaluation.probes import (
    Probe,
    Question,
    generic_probes,
    generic_text,
    task_probes,
    task_questions,
    test_rows,
)
from edgepeft.evaluation.results import ModelFacts, ReferenceResult
from edgepeft.evaluation.settings import ReferenceSettings
from edgepeft.evaluation.torch_model import TorchModel, even_batches
from edgepeft.merging.settings import AdapterSettings
from edgepeft.merging.stage import (
    adapter_folder,
    check_base,
    frozen_base,
    job_provenance,
    open_unmerged,
)
from edgepeft.metrics.generation import token_loss
from edgepeft.runtime.pieces import pieces
from edgepeft.stages.job import Job

PROBES = "probes.json"
HIDDEN = "hidden.safetensors"
BATCH_TOKENS = 512
"""Tokens that a pass reads at once; more make no product on a CPU faster."""
HEAD = "head"
"""The head's weight among the hidden states, where the adapter changed it."""
HEAD_BIAS = "head_bias"
"""What the head adds to its product, among the hidden states too, where it adds anything."""


def run(job: Job[ReferenceSettings]) -> ReferenceResult:
    """Stage function. Inputs: ``base``, ``adapter`` or ``train``, ``test``, ``generic`` if the recipe has one."""
    from transformers import AutoModelForCausalLM

    data = job.settings.data
    prompter = Prompter.from_folder(
        job.inputs["base"], job.template(data.template), data.control_tokens
    )
    folder = checkpoint_folder(job.inputs["base"])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    context = context_length(model.config)
    unmerged = open_unmerged(job)
    if unmerged is not None:
        # The reference puts its virtual tokens before these, as the bundle will.
        context -= unmerged.virtual_tokens
    rows = test_rows(job.inputs["test"], data)
    questions = task_questions(rows, prompter, context)
    task = task_probes(rows, questions, prompter, context)
    if not task:
        raise InputError(f"{job.inputs['test']}: no test row fits the context of {context} tokens")
    generic = generic_probes(prompter, context, generic_text(job.inputs.get("generic")))

    total = 2 * max(len(questions), len(task)) + len(generic)
    progress = _Counter(job, total)
    base = TorchModel(model)
    base.check_head(task[0].ids[:32])
    # Nothing is ever compared with the bare base on generic text.
    base_facts, _ = _measure(base, task, [], questions, prompter, progress)

    head, embedding = head_and_embedding_names(model)
    reference = TorchModel(
        adapted(job, model), changes_head=True if is_full(adapter_folder(job)) else None
    )
    facts, hidden = _measure(reference, task, generic, questions, prompter, progress)
    if reference.changes_head:
        hidden[HEAD] = reference.head_weight()
    if (bias := reference.head_bias()) is not None:
        hidden[HEAD_BIAS] = bias

    save_file(hidden, job.out / HIDDEN)
    record = {
        "task": [asdict(probe) for probe in task],
        "generic": [asdict(probe) for probe in generic],
        "questions": [question.as_dict() for question in questions],
        "head": head,
        "embedding": embedding,
        "outer_head": reference.outer.as_dict(),
        "base": base_facts.as_dict(),
        "reference": facts.as_dict(),
    }
    (job.out / PROBES).write_text(json.dumps(record) + "\n", encoding="utf-8")
    return ReferenceResult(
        base=base_facts,
        reference=facts,
        rows=len(questions),
        exact_match_seconds=base_facts.exact_match_seconds + facts.exact_match_seconds,
        task_tokens=sum(probe.scored for probe in task),
        generic_tokens=sum(probe.scored for probe in generic),
    )


@dataclass(frozen=True)
class _Pass:
    """Token ids that the model reads once, with the probes that are scored there and the question it answers."""

    ids: list[int]
    probes: list[tuple[int, Probe]]
    question: Question | None = None


class _Counter:
    def __init__(self, job: Job[ReferenceSettings], total: int) -> None:
        self._events, self._total, self._done = job.events, total, 0
        self._events.progress(0, total)

    def step(self) -> None:
        self._done += 1
        self._events.progress(self._done, self._total)


def adapted(job: Job[AdapterSettings], model: Any) -> Any:
    """The unmerged adapter on ``model``, once that is the base it was trained on; ``model`` is consumed."""
    folder = adapter_folder(job)
    if is_full(folder):
        check_base(job)
        return type(model).from_pretrained(folder, dtype=torch.float32).eval()
    onto_training_grid(model, frozen_base(job), job_provenance(job))
    return attach(model, open_adapter(folder))


def onto_training_grid(model: Any, frozen: TensorSource, provenance: Provenance) -> None:
    """Give ``model``, in place, the weights that were frozen while the adapter was trained, on their grid."""
    names = provenance.quantized
    chosen = set(linear_weight_names(model) if names is None else names)
    parameters = dict(model.named_parameters())
    absent = sorted(chosen - set(parameters))
    if absent:
        raise InputError(f"the adapter was trained with {absent[0]} quantized; this model has none")
    source = dequantized(frozen, provenance.grid, chosen)
    if isinstance(source, SafetensorsSource):
        return
    for name, parameter in parameters.items():
        if name in source.specs:
            parameter.data = source.load(name).to(torch.float32)


def _measure(
    model: TorchModel,
    task: list[Probe],
    generic: list[Probe],
    questions: list[Question],
    prompter: Prompter,
    progress: _Counter,
) -> tuple[ModelFacts, dict[str, torch.Tensor]]:
    """Task loss, exact match and the hidden states of scored positions of one model."""
    kept: dict[str, torch.Tensor] = {}
    losses = 0.0
    right: dict[int, bool] = {}

    def score(index: int, probe: Probe, states: torch.Tensor) -> None:
        nonlocal losses
        hidden = states[probe.positions]
        targets = torch.tensor(probe.ids[probe.start :])
        for part in pieces(len(hidden), model.vocabulary):
            logits = model.logits(hidden[part])
            if not torch.isfinite(logits).all():
                raise EdgepeftError(
                    "the model's own logits are not finite; base or adapter is damaged"
                )
            if probe.kind == "task":
                losses += token_loss(torch.log_softmax(logits, -1), targets[part])
        kept[f"{probe.kind}.{index}"] = hidden.contiguous().clone()

    # The first questions are the task's probes, so one pass serves both.
    probes_at: dict[tuple[int, ...], list[int]] = {}
    for index, probe in enumerate(task):
        probes_at.setdefault(tuple(probe.ids), []).append(index)
    passes = []
    for question in questions:
        ids = question.prompt + question.completion
        scored = [(index, task[index]) for index in probes_at.pop(tuple(ids), [])]
        passes.append(_Pass(ids, scored, question))
    for alone, indexes in probes_at.items():
        passes.append(_Pass(list(alone), [(index, task[index]) for index in indexes]))
    passes += [_Pass(probe.ids, [(index, probe)]) for index, probe in enumerate(generic)]

    decoding = 0.0
    for batch in even_batches([one.ids for one in passes], BATCH_TOKENS):
        started = time.monotonic()
        states = model.hidden([passes[place].ids for place in batch])
        decoding += time.monotonic() - started
        for place, of_row in zip(batch, states, strict=True):
            one = passes[place]
            for index, probe in one.probes:
                score(index, probe, of_row)
            started = time.monotonic()
            if one.question is not None:
                right[place] = model.answers(one.question, of_row, prompter)
            decoding += time.monotonic() - started
            progress.step()
    wrong = tuple(question.where for place, question in enumerate(questions) if not right[place])
    facts = ModelFacts(
        task_loss=losses / sum(probe.scored for probe in task),
        exact_match=sum(right.values()) / len(questions) if questions else None,
        exact_match_seconds=round(decoding, 2),
        wrong=wrong,
    )
    return facts, kept
