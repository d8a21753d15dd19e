"""The base stage of encoders: any checkpoint of one becomes a model for the recipe's task, head included.

A bare encoder gets a fresh head, always drawn from the same seed, so that training, reference, merge and export
begin with the same one and an adapter finds its base again. A decoder that classifies texts goes the same way:
its head reads the last token. The model is loaded whole, as transformers does it: encoders are small.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from edgepeft.checkpoints.base import save_tokenizer, stage_gguf
from edgepeft.checkpoints.gguf_files import each_file_read_once
from edgepeft.checkpoints.skeleton import is_decoder
from edgepeft.data.texts import WHOLE, TextEncoder
from edgepeft.errors import InputError, one_line
from edgepeft.stage import Job
from edgepeft.tasks import EMBEDDING, ENCODER_TASKS
from edgepeft.workspace import read_manifest

_HEAD_SEED = 0
_BODY = ("embeddings", "encoder", "layers", "embed_tokens", "norm")
_GENERATES = "generates"


@dataclass(frozen=True)
class Pooling:
    """How the vectors of a text's tokens become one: their mean or the first one, then unit length or not."""

    mode: Literal["mean", "cls"] = "mean"
    normalize: bool = True


@dataclass(frozen=True)
class EncoderFacts:
    """What later stages need to know of a staged encoder.

    ``new_modules`` are the modules that were made for the task and are trained whole; ``context_length`` counts
    the tokens of a text, its special ones included.
    """

    task: str
    labels: tuple[str, ...]
    new_modules: tuple[str, ...]
    context_length: int
    pooling: Pooling | None

    @classmethod
    def of(cls, base: Path) -> EncoderFacts:
        """Those of a finished base stage."""
        found = (read_manifest(base) or {})["result"]
        pooling = found["pooling"]
        return cls(
            found["task"],
            tuple(found["labels"]),
            tuple(found["new_modules"]),
            found["context_length"],
            Pooling(**pooling) if pooling else None,
        )


def run(job: Job) -> dict[str, Any]:
    """Stage function. Input: ``model``, a folder. Settings: ``task``, ``labels``.

    Result: ``weights`` and the fields of ``EncoderFacts``. Raises InputError.
    """
    import transformers

    given, task, labels = job.inputs["model"], job.settings["task"], job.settings["labels"]
    model = given
    if given.is_file():
        # transformers knows the names in a GGUF file for models that generate alone.
        model = job.out / _GENERATES
        with each_file_read_once():
            stage_gguf(given, model)
    options: dict[str, Any] = {"trust_remote_code": False}
    if labels:
        options["id2label"] = dict(enumerate(labels))
        options["label2id"] = {label: index for index, label in enumerate(labels)}
    torch.manual_seed(_HEAD_SEED)
    loader = getattr(transformers, ENCODER_TASKS[task].auto_class)
    try:
        loaded, info = loader.from_pretrained(
            model,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except (ValueError, KeyError, OSError, RuntimeError, TypeError) as error:
        raise InputError(
            f"{model}: transformers can't read it for {task}: {one_line(error)}"
        ) from None
    new = _new_modules(info["missing_keys"], loaded.base_model_prefix)
    if task == EMBEDDING:
        lost = sorted(new - {"pooler"})
        new = set()
    else:
        lost = sorted(name for name in new if name in _BODY)
    if lost:
        raise InputError(f"{model}: lacks weights of {lost[0]}; not a whole checkpoint")
    loaded.config.problem_type = "single_label_classification" if task.startswith("text") else None
    save_tokenizer(given, job.out)
    if is_decoder(loaded):
        # Its head reads the last token that is no padding, and so must know which that is.
        loaded.config.pad_token_id = TextEncoder(job.out, WHOLE).pad_id
    loaded.save_pretrained(job.out)
    if given.is_file():
        shutil.rmtree(model)
    pooling = asdict(read_pooling(model)) if task == EMBEDDING else None
    return {
        "weights": ".",
        "architecture": type(loaded).__name__,
        "task": task,
        "labels": labels,
        "new_modules": sorted(new),
        "context_length": context_length(loaded.config.to_dict()),
        "pooling": pooling,
    }


def context_length(config: Mapping[str, Any]) -> int:
    """Tokens that a text may have; RoBERTa counts positions from behind its padding token."""
    positions = int(config["max_position_embeddings"])
    if "roberta" in str(config.get("model_type")):
        return positions - int(config.get("pad_token_id") or 0) - 1
    return positions


def read_pooling(model: Path) -> Pooling:
    """What a model's sentence-transformers files say of pooling; the mean at unit length where there are none.

    Raises InputError for a kind of pooling that is not supported.
    """
    path = model / "1_Pooling" / "config.json"
    if not path.is_file():
        return Pooling()
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        modules = json.loads((model / "modules.json").read_text(encoding="utf-8"))
        normalize = any(str(module["type"]).endswith("Normalize") for module in modules)
        modes = {key.removeprefix("pooling_mode_") for key, on in said.items() if on is True}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not readable ({one_line(error)})") from None
    modes &= {"cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken"}
    if modes == {"mean_tokens"}:
        return Pooling("mean", normalize)
    if modes == {"cls_token"}:
        return Pooling("cls", normalize)
    raise InputError(
        f"{path}: pools by {', '.join(sorted(modes))}; only mean and cls are supported"
    )


def _new_modules(missing: Iterable[str], prefix: str) -> set[str]:
    """The modules that missing weights belong to: of the head its top level, of the body the level below it."""
    return {key.removeprefix(f"{prefix}.").partition(".")[0] for key in missing}
