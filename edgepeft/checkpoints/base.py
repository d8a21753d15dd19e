"""The base stage: whatever the recipe calls a model becomes a folder that every later stage can read.

A Hugging Face folder keeps its weights where they are; a GGUF file is dequantized once, with transformers' own
mapping, to float32 safetensors. The tokenizer is saved in its fast form in both cases, because the runtime on the
device reads ``tokenizer.json`` alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgepeft.checkpoints.gguf_files import each_file_read_once
from edgepeft.checkpoints.new_tokens import add_to_tokenizer, rows_for, write_with_rows
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import HEAD, build_skeleton, head_and_embedding_names
from edgepeft.errors import InputError, one_line
from edgepeft.stage import Job
from edgepeft.workspace import read_manifest


def run(job: Job) -> dict[str, Any]:
    """Stage function. Inputs: ``model`` (folder or .gguf). Settings: ``tokens`` to add, if any.

    Result: ``weights``, the checkpoint's folder, and ``copies``, names of stored tensors that only repeat
    another.
    """
    model, tokens = job.inputs["model"], job.settings.get("tokens", [])
    if model.is_file():
        with each_file_read_once():
            stage_gguf(model, job.out)
            size = save_tokenizer(model, job.out, tokens)
        weights = "."
    else:
        _refuse_incomplete(model)
        _copy_small_files(model, job.out)
        size = save_tokenizer(model, job.out, tokens)
        weights = str(model)
    before = json.loads((job.out / "config.json").read_text(encoding="utf-8"))
    rows = rows_for(size, before) if tokens else before["vocab_size"]
    if rows != before["vocab_size"]:
        weights = _grow(job.out if weights == "." else model, rows, job.out)
    config = json.loads((job.out / "config.json").read_text(encoding="utf-8"))
    stored = job.out if weights == "." else model
    return {
        "weights": weights,
        "architecture": config["architectures"][0],
        "copies": _copies(stored),
    }


def checkpoint_folder(base: Path) -> Path:
    """The folder with ``config.json`` and weights that a finished base stage points to."""
    manifest = read_manifest(base) or {}
    weights = Path(manifest.get("result", {}).get("weights", "."))
    return weights if weights.is_absolute() else base


def open_base(base: Path) -> SafetensorsSource:
    """The base's weights as a lazy source. Raises InputError."""
    facts = (read_manifest(base) or {}).get("result", {})
    return SafetensorsSource.from_folder(checkpoint_folder(base), without=facts.get("copies", ()))


def _copies(folder: Path) -> list[str]:
    """A stored head that is the embedding once more, in a model that ties the two: transformers keeps one of
    them.

    A head with values of its own stays, whatever the configuration says; so transformers has it too.
    """
    source = SafetensorsSource.from_folder(folder)
    if HEAD not in source.specs:
        return []
    skeleton = build_skeleton(folder)
    head, embedding = head_and_embedding_names(skeleton)
    if head != embedding or source.specs[HEAD].shape != source.specs[embedding].shape:
        return []
    return [HEAD] if source.same(HEAD, embedding) else []


def _refuse_incomplete(model: Path) -> None:
    """Raise InputError for a checkpoint that lacks weights; transformers would begin them at random."""
    needed = {name for name, _ in build_skeleton(model).named_parameters()}
    absent = sorted(needed - set(SafetensorsSource.from_folder(model).specs))
    if absent:
        raise InputError(f"{model}: lacks {absent[0]} ({len(absent)} missing)")


def stage_gguf(model: Path, out: Path) -> None:
    """Write a GGUF file's model into ``out``, dequantized to float32. Raises InputError."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            model.parent, gguf_file=model.name, dtype=torch.float32
        )
    except (ValueError, KeyError, OSError, NotImplementedError) as error:
        raise InputError(f"{model}: transformers can't read this GGUF: {one_line(error)}") from None
    # The weights are plain float32 now; the mark of the file they came from forbids saving them.
    loaded.hf_quantizer = None
    if hasattr(loaded.config, "quantization_config"):
        del loaded.config.quantization_config
    loaded.save_pretrained(out)


def _copy_small_files(model: Path, out: Path) -> None:
    for name in ("config.json", "generation_config.json"):
        if (model / name).is_file():
            shutil.copyfile(model / name, out / name)


def _grow(source: Path, rows: int, out: Path) -> str:
    """Rows for new tokens; the checkpoint then lies in the stage's own folder, whose name is returned."""
    if source == out:
        # What was just staged is read while the grown copy is written, so it goes through a folder beside.
        beside = out / "grown"
        beside.mkdir()
        shutil.copyfile(out / "config.json", beside / "config.json")
        write_with_rows(out, rows, beside)
        for file in out.glob("model*.safetensors*"):
            file.unlink()
        for file in beside.iterdir():
            file.replace(out / file.name)
        beside.rmdir()
    else:
        write_with_rows(source, rows, out)
    return "."


def save_tokenizer(model: Path, out: Path, tokens: Sequence[str] = ()) -> int:
    """Write a model's tokenizer (folder or .gguf) into ``out`` in its fast form; how many ids it has.

    ``tokens`` are added to it. Raises InputError.
    """
    from transformers import AutoTokenizer

    try:
        if model.is_file():
            tokenizer = AutoTokenizer.from_pretrained(model.parent, gguf_file=model.name)
        else:
            tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except (ValueError, KeyError, OSError, TypeError, ImportError) as error:
        raise InputError(f"{model}: its tokenizer can't be read: {one_line(error)}") from None
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{model}: its tokenizer has no fast form (tokenizer.json), which devices need"
        )
    size = add_to_tokenizer(tokenizer, tokens)
    tokenizer.save_pretrained(out)
    return size
