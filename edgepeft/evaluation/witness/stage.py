"""The witness stage: what the model is by its own makers' loading, written down before anything of ours is
asked.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from edgepeft.adapters.config import is_full
from edgepeft.adapters.plain import plain_adapter
from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.checkpoints.base_stage import base_facts
from edgepeft.checkpoints.skeleton import build_skeleton
from edgepeft.data.prompt import Prompter
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.evaluation.probes import generic_text, task_probes, task_questions, test_rows
from edgepeft.evaluation.results import WitnessResult
from edgepeft.evaluation.settings import WitnessSettings
from edgepeft.evaluation.witness.models import Sources, adapter_config, load_adapted
from edgepeft.evaluation.witness.probes import (
    Limits,
    Statement,
    limits_of,
    long_length,
    long_statements,
    task_statements,
)
from edgepeft.merging.settings import on_stored_grid
from edgepeft.merging.stage import adapter_folder, job_provenance
from edgepeft.stages.job import Job

STATEMENTS = "statements.json"
LOGITS = "logits.safetensors"


@dataclass(frozen=True)
class WitnessRecord:
    """A finished witness stage: statements, and the logits float32 [positions, V] of each.

    The last one is the long text. ``limits`` are the lengths at which the model changes how it treats a text,
    and ``of_reference`` says whether this model is the reference's.
    """

    statements: tuple[Statement, ...]
    logits: tuple[torch.Tensor, ...]
    limits: Limits
    seconds: float
    of_reference: bool = True

    @classmethod
    def open(cls, folder: Path) -> WitnessRecord:
        """Read the stage's folder."""
        record = json.loads((folder / STATEMENTS).read_text(encoding="utf-8"))
        stored = load_file(folder / LOGITS)
        statements = tuple(Statement(**one) for one in record["statements"])
        logits = tuple(stored[str(index)] for index in range(len(statements)))
        found = record["limits"]
        limits = Limits(tuple(found["windows"]), found["switch"])
        return cls(statements, logits, limits, record["seconds"], record["of_reference"])

    def write(self, folder: Path) -> None:
        """Leave it in a stage's folder."""
        save_file({str(i): one for i, one in enumerate(self.logits)}, folder / LOGITS)
        record = {
            "statements": [asdict(one) for one in self.statements],
            "limits": asdict(self.limits),
            "of_reference": self.of_reference,
            "seconds": self.seconds,
        }
        (folder / STATEMENTS).write_text(json.dumps(record) + "\n", encoding="utf-8")

    def summary(self) -> WitnessResult:
        """What the stage's manifest says of it."""
        return WitnessResult(
            texts=len(self.statements),
            positions=sum(len(one.positions) for one in self.statements),
            longest=len(self.statements[-1].ids),
            limits=tuple(self.limits.all),
            seconds=self.seconds,
        )

    def after(self, tokens: int) -> torch.Tensor:
        """Logits float32 [V] after so many tokens of the long text, where nothing follows them. Raises
        KeyError.
        """
        early = self.limits.switch is not None and tokens <= self.limits.switch
        index = len(self.statements) - (2 if early and len(self.statements[-1].ids) > tokens else 1)
        statement = self.statements[index]
        if tokens - 1 not in statement.positions:
            raise KeyError(tokens)
        return self.logits[index][statement.positions.index(tokens - 1)]


def run(job: Job[WitnessSettings]) -> WitnessResult:
    """Stage function. Inputs: ``model`` as the recipe names it, ``adapter`` or ``train``, ``base`` for the
    tokenizer, ``test`` and ``generic``.
    """
    started = time.monotonic()
    data = job.settings.data
    prompter = Prompter.from_folder(job.inputs["base"], job.template(data.template))
    sources = sources_of(job)
    model = load_adapted(sources)
    config = getattr(model, "get_base_model", lambda: model)().config
    virtual = _virtual_tokens(sources.adapter)
    context = int(getattr(config, "max_position_embeddings", 2048)) - virtual
    limits = limits_of(config.to_dict())
    rows = test_rows(job.inputs["test"], data)
    probes = task_probes(rows, task_questions(rows, prompter, context), prompter, context)
    if not probes:
        raise InputError(f"{job.inputs['test']}: no test row fits the context of {context} tokens")
    statements = task_statements([(probe.ids, probe.start) for probe in probes], virtual)
    text = prompter.text(generic_text(job.inputs.get("generic")))
    statements += long_statements(text, long_length(context, limits), limits)
    logits = [own_logits(model, one, virtual) for one in job.events.track(statements)]
    seconds = round(time.monotonic() - started, 2)
    testimony = WitnessRecord(
        tuple(statements), tuple(logits), limits, seconds, sources.of_reference
    )
    testimony.write(job.out)
    return testimony.summary()


def sources_of(
    job: Job[WitnessSettings], auto_class: str = "AutoModelForCausalLM", labels: int | None = None
) -> Sources:
    """Where a job's model comes from; ``labels`` is the number of a classifier's labels."""
    folder = adapter_folder(job)
    provenance = job_provenance(job)
    config = json.loads((job.inputs["base"] / "config.json").read_text(encoding="utf-8"))
    merge_base = job.settings.merge.base
    grid, quantized = provenance.grid, provenance.quantized
    of_reference = merge_base == "dequantized"
    facts = base_facts(job.inputs["base"])
    frozen = job.settings.frozen
    if frozen is not None:
        frozen = on_stored_grid(facts, frozen)
        # Adapters that are swapped are served on one base, whatever each was trained on.
        of_reference = frozen.grid == grid
        merge_base, grid, quantized = "dequantized", frozen.grid, frozen.quantized
    model = job.inputs["model"]
    alone = None
    if facts.inside is not None:
        alone, auto_class = facts.architecture, "AutoModelForImageTextToText"
    elif facts.renamed or (model.is_file() and auto_class != "AutoModelForCausalLM"):
        # transformers knows the names in a GGUF file for models that generate alone, and none of a wrapper.
        model = checkpoint_folder(job.inputs["base"])
    return Sources(
        model=model,
        adapter=_readable(job, folder),
        whole=is_full(folder),
        merge_base=merge_base,
        grid=grid.as_dict(),
        quantized=quantized,
        of_reference=of_reference,
        auto_class=auto_class,
        labels=labels,
        rows=config["vocab_size"] if facts.rows else None,
        quantization=facts.quantization if model == job.inputs["model"] else None,
        alone=alone,
    )


def _readable(job: Job[WitnessSettings], folder: Path) -> Path:
    """An adapter that PEFT loads whole: with the names of a wrapper it would take nothing of it, and say
    nothing."""
    if is_full(folder):
        return folder
    skeleton = build_skeleton(checkpoint_folder(job.inputs["base"]))
    modules = [name for name, _ in skeleton.named_modules() if name]
    return plain_adapter(folder, modules, job.scratch / "adapter")


def own_logits(model: Any, statement: Statement, virtual: int = 0) -> torch.Tensor:
    """Logits float32 [positions, V] by the model's own forward, without a cache. Raises EdgepeftError.

    The head is applied to the compared positions alone, so that memory does not grow with text times vocabulary.
    """
    ids = torch.tensor([statement.ids])
    arguments: dict[str, Any] = {"input_ids": ids, "use_cache": False}
    wanted = torch.tensor(statement.positions)
    with torch.no_grad():
        if virtual:
            # PEFT puts its tokens before the ids or into the cache; the end of its output is that of the ids.
            arguments["attention_mask"] = torch.ones_like(ids)
            logits = model(**arguments).logits[0, -len(statement.ids) :][wanted]
        else:
            logits = model(**arguments, logits_to_keep=wanted).logits[0]
    if not torch.isfinite(logits).all():
        raise EdgepeftError("the model's own logits are not finite; base or adapter is damaged")
    found: torch.Tensor = logits.to(torch.float32).contiguous()
    return found


def _virtual_tokens(adapter: Path) -> int:
    count = adapter_config(adapter).get("num_virtual_tokens")
    return count if isinstance(count, int) else 0
