"""The witness stage of encoders: labels' logits, or vectors of texts, by the model's own makers' loading."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from edgepeft.checkpoints.base_stage import EncoderFacts
from edgepeft.data.rows import Row
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.evaluation.probes import test_rows
from edgepeft.evaluation.results import WitnessResult
from edgepeft.evaluation.settings import WitnessSettings
from edgepeft.evaluation.witness.models import load_adapted
from edgepeft.evaluation.witness.probes import Limits, Statement, spread
from edgepeft.evaluation.witness.stage import WitnessRecord, sources_of
from edgepeft.metrics.encoder_examples import encode_row, open_encoder
from edgepeft.models.tasks import EMBEDDING, ENCODER_TASKS, TAGGING
from edgepeft.stages.job import Job

_TEXTS = 8
_LONGEST = 2048
_POSITIONS = 32


def run(job: Job[WitnessSettings]) -> WitnessResult:
    """Stage function. Inputs as those of models that generate."""
    started = time.monotonic()
    data, facts = job.settings.data, EncoderFacts.read(job.inputs["base"])
    encoder = open_encoder(job.inputs["base"], data.control_tokens)
    rows = test_rows(job.inputs["test"], data)
    sources = sources_of(job, ENCODER_TASKS[facts.task].auto_class, facts.outputs)
    model = load_adapted(sources)
    types_of = _types(model, job.inputs["base"], encoder.max_length)
    examples = [(row, encode_row(row, facts, encoder)) for row in rows[:_TEXTS]]
    statements = [
        Statement(
            list(one.ids),
            list(one.positions) if facts.task == TAGGING else [0],
            types_of(row, one.ids),
        )
        for row, one in examples
        if one.ids and (one.positions or facts.task == EMBEDDING)
    ]
    if not statements:
        raise InputError(f"{job.inputs['test']}: no test row has anything to judge")
    statements.append(_long(statements, min(facts.context_length, _LONGEST), facts.task))
    logits = [
        own_output(model, one, facts.task, Path(facts.pooled_by))
        for one in job.events.track(statements)
    ]
    testimony = WitnessRecord(
        tuple(statements),
        tuple(logits),
        Limits(),
        round(time.monotonic() - started, 2),
        sources.of_reference,
    )
    testimony.write(job.out)
    return testimony.summary()


def _types(
    model: Any, tokenizer: Path, longest: int
) -> Callable[[Row, list[int]], list[int] | None]:
    """What tells two texts apart, by transformers' own tokenizer where it reads the same ids, None where the
    model is not told.
    """
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tokenizer)
    base = getattr(model, "get_base_model", lambda: model)()
    takes = "token_type_ids" in inspect.signature(base.forward).parameters

    def types_of(row: Row, ids: list[int]) -> list[int] | None:
        if not takes or row.pair is None:
            return None
        read = theirs(row.text, row.pair, truncation=True, max_length=longest)
        found: list[int] | None = read.get("token_type_ids")
        return found if list(read["input_ids"]) == ids else None

    return types_of


def own_output(model: Any, statement: Statement, task: str, folder: Path) -> torch.Tensor:
    """What the model says of a text: logits float32 [positions, C], or the text's vector [1, H]."""
    ids = torch.tensor([statement.ids])
    with torch.no_grad():
        told = {}
        if statement.types is not None:
            told["token_type_ids"] = torch.tensor([statement.types])
        output = model(input_ids=ids, attention_mask=torch.ones_like(ids), **told)
    found: torch.Tensor = getattr(output, ENCODER_TASKS[task].output)[0]
    if task == TAGGING:
        found = found[statement.positions]
    elif task == EMBEDDING:
        found = _pooled(found, folder)[None]
    else:
        found = found[None]
    if not torch.isfinite(found).all():
        raise EdgepeftError("the model's own outputs are not finite; base or adapter is damaged")
    return found.to(torch.float32).contiguous()


def _pooled(vectors: torch.Tensor, folder: Path) -> torch.Tensor:
    """One vector of a text's token vectors [T, H], by what the model's own files say of it."""
    modules = folder / "modules.json"
    pooling = next(iter(folder.glob("*Pooling/config.json")), folder / "1_Pooling" / "config.json")
    if not (modules.is_file() and pooling.is_file()):
        return torch.nn.functional.normalize(vectors.mean(dim=0), dim=0)
    listed = json.loads(modules.read_text(encoding="utf-8"))
    said = json.loads(pooling.read_text(encoding="utf-8"))
    flags = {key for key, on in said.items() if on is True} | {str(said.get("pooling_mode"))}
    vector = vectors.mean(dim=0)
    if any("cls" in flag for flag in flags):
        vector = vectors[0]
    elif any("lasttoken" in flag for flag in flags):
        vector = vectors[-1]
    for module in listed:
        if str(module["type"]).endswith("Dense"):
            vector = _linear(vector, folder / str(module["path"]))
        elif str(module["type"]).endswith("Normalize"):
            vector = torch.nn.functional.normalize(vector, dim=0)
    return vector


def _linear(vector: torch.Tensor, folder: Path) -> torch.Tensor:
    """A Dense module as the package makes one: torch's own linear layer and activation."""
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    layer = torch.nn.Linear(said["in_features"], said["out_features"], said.get("bias", True))
    stored = load_file(folder / "model.safetensors")
    layer.load_state_dict(
        {name.removeprefix("linear."): one.to(torch.float32) for name, one in stored.items()}
    )
    name = str(said.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = getattr(torch.nn, name.rpartition(".")[2])()
    with torch.no_grad():
        found: torch.Tensor = activation(layer(vector))
    return found


def _long(statements: list[Statement], length: int, task: str) -> Statement:
    """The texts one after another, again and again, up to the most tokens that the model reads."""
    text = [id for one in statements for id in one.ids]
    ids = [text[i % len(text)] for i in range(length)]
    types = None
    if all(one.types is not None for one in statements):
        said = [kind for one in statements for kind in one.types or []]
        types = [said[i % len(said)] for i in range(length)]
    return Statement(ids, spread(0, length - 1, _POSITIONS) if task == TAGGING else [0], types)
