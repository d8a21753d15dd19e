"""The base stage of encoders: any checkpoint of one becomes a model for the recipe's task, head included.

A bare encoder gets a fresh head, always drawn from the same seed, so that training, reference, merge and export
begin with the same one and an adapter finds its base again. A decoder that classifies texts goes the same way:
its head reads the last token. The model is loaded whole, as transformers does it: encoders are small.
"""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from edgepeft.checkpoints.base import save_tokenizer
from edgepeft.checkpoints.base_stage import BaseSettings, EncoderFacts
from edgepeft.checkpoints.fingerprint import fingerprint
from edgepeft.checkpoints.fit import HARMLESS, fit_checkpoint, unwrapped_names
from edgepeft.checkpoints.gguf_stage import stage_gguf
from edgepeft.checkpoints.safetensors_io import (
    SafetensorsSource,
    rewrite_checkpoint,
    write_checkpoint,
)
from edgepeft.checkpoints.skeleton import build_skeleton, is_decoder
from edgepeft.compat.transformers_gguf_reading import each_file_read_once
from edgepeft.data.texts import WHOLE, TextEncoder
from edgepeft.errors import InputError, one_line
from edgepeft.models.checks import check_headers
from edgepeft.models.dense_files import WEIGHTS
from edgepeft.models.inspect import inspect_model
from edgepeft.models.sentence_files import SentenceFiles, read_sentence_files
from edgepeft.models.tasks import EMBEDDING, ENCODER_TASKS, Task
from edgepeft.models.tokens import refuse_beyond
from edgepeft.stages.job import Job
from edgepeft.utils.finite import all_finite

_HEAD_SEED = 0
_BODY = (
    *("embeddings", "embeddings_project", "encoder", "transformer"),
    *("layers", "embed_tokens", "norm", "final_norm"),
)
_FROM_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
"""Kinds of model that count positions from behind their padding token."""
_GENERATES = "generates"
_SCORE = "LABEL_0"
"""What transformers calls a head's only number."""
_UNWRAPPED = "unwrapped"


def run(job: Job[BaseSettings]) -> EncoderFacts:
    """Stage function. Inputs: ``model``, a folder or a GGUF file; ``tokenizer`` and ``sentence``, an adapter's
    folder where it brings its own. Raises InputError.
    """
    given, settings = job.inputs["model"], job.settings
    task, labels = settings.task, settings.labels
    model = given
    if given.is_file():
        # transformers knows the names in a GGUF file for models that generate alone.
        model = job.out / _GENERATES
        stage_gguf(given, model)
    check_headers(inspect_model(model))
    source = SafetensorsSource.from_folder(model)
    folder = _unwrapped(model, source, job)
    loaded, new = _load(folder, given, task, labels, job)
    loaded.config.problem_type = ENCODER_TASKS[task].problem_type
    own = job.inputs.get("tokenizer")
    with each_file_read_once():
        vocabulary = save_tokenizer(given, job.out, own=own)
    rows = settings.rows
    resized = rows is not None and rows != loaded.config.vocab_size
    if rows is not None and resized:
        _resize(loaded, rows)
    refuse_beyond(vocabulary, loaded.get_input_embeddings().num_embeddings, own or given)
    if is_decoder(loaded):
        # Its head reads the last token that is no padding, and so must know which that is.
        loaded.config.pad_token_id = _padding(
            TextEncoder(job.out, WHOLE), loaded.config.pad_token_id, own or given
        )
    _save(loaded, job.out)
    for scratch in (_GENERATES, _UNWRAPPED):
        shutil.rmtree(job.out / scratch, ignore_errors=True)
    sentence = None
    if task == EMBEDDING:
        sentence = read_sentence_files(job.inputs.get("sentence", given))
        _refuse_lowering(sentence, job.out, given)
        _keep_dense(sentence, job.inputs.get("sentence", given), job.out)
    limit = context_length(loaded.config.to_dict())
    return EncoderFacts(
        architecture=type(loaded).__name__,
        task=task,
        labels=labels,
        new_modules=tuple(sorted(new)),
        context_length=min(limit, (sentence and sentence.max_tokens) or limit),
        pooling=sentence.pooling if sentence else None,
        rows=rows if resized else None,
        renamed=folder != model,
        pooled_by=str(job.inputs.get("sentence", given)),
        fingerprints=(fingerprint(source),),
        paired=settings.paired,
        token_types=settings.paired and _reads_types(loaded, job.out, given),
        scoring=settings.scoring,
    )


def _unwrapped(model: Path, source: SafetensorsSource, job: Job[BaseSettings]) -> Path:
    """The checkpoint's folder, or a copy of it without the prefixes that wrappers left on its names."""
    names = unwrapped_names(source)
    if names is None:
        return model
    job.events.message(
        f"{model.name}: took the prefix of a wrapper (module, _orig_mod) off the names"
    )
    copy = job.out / _UNWRAPPED
    copy.mkdir()
    shutil.copyfile(model / "config.json", copy / "config.json")
    write_checkpoint(source.named(names), copy)
    return copy


def _load(
    folder: Path, given: Path, task: Task, labels: Sequence[str], job: Job[BaseSettings]
) -> tuple[Any, set[str]]:
    """The model for the task in float32, and the modules that were made for it. Raises InputError."""
    import transformers

    options: dict[str, Any] = {"trust_remote_code": False}
    if ENCODER_TASKS[task].has_head:
        names = labels or (_SCORE,)
        options["id2label"] = dict(enumerate(names))
        options["label2id"] = {label: index for index, label in enumerate(names)}
    torch.manual_seed(_HEAD_SEED)
    loader = getattr(transformers, ENCODER_TASKS[task].auto_class)
    try:
        loaded, info = loader.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except (ValueError, KeyError, OSError, RuntimeError, TypeError) as error:
        raise InputError(
            f"{given}: transformers can't read it for {task}: {one_line(error)}"
        ) from None
    prefix = loaded.base_model_prefix
    new = _new_modules(info["missing_keys"], prefix)
    if task == EMBEDDING:
        lost = sorted(new - {"pooler"})
        new = set()
    else:
        lost = sorted(name for name in new if name in _BODY)
    if lost:
        raise InputError(f"{given}: lacks weights of {lost[0]}; not a whole checkpoint")
    _account_for(info["unexpected_keys"], prefix, given, job)
    for name, parameter in loaded.named_parameters():
        if not all_finite(parameter.data):
            raise InputError(f"{given}: {name} holds NaN or infinite values")
    return loaded, new


def _reads_types(model: Any, tokenizer: Path, given: Path) -> bool:
    """Whether a model is told which token is of which text, as transformers does it with this tokenizer.

    Raises InputError where the tokenizer counts more texts than the model has types for.
    """
    from transformers import AutoTokenizer

    types = int(getattr(model.config, "type_vocab_size", 0) or 0)
    names = AutoTokenizer.from_pretrained(tokenizer).model_input_names
    takes = "token_type_ids" in inspect.signature(model.forward).parameters
    if not (types and takes and "token_type_ids" in names):
        return False
    highest = max(TextEncoder(tokenizer, WHOLE).encode("a", "b").types, default=0)
    if highest >= types:
        raise InputError(
            f"{given}: type_vocab_size: has {types}, and its tokenizer gives a second text the type {highest}; "
            "take token_type_ids out of model_input_names in tokenizer_config.json if it was trained without"
        )
    return highest > 0


def _account_for(
    unexpected: Iterable[str], prefix: str, given: Path, job: Job[BaseSettings]
) -> None:
    """Raise InputError for stored parts of the body that the model has no place for; say which head is left
    out."""
    left = sorted(key for key in unexpected if not any(re.search(p, key) for p in HARMLESS))
    body = [key for key in left if _new_modules([key], prefix) & set(_BODY)]
    if body:
        raise InputError(
            f"{given}: holds {body[0]}, which the model that config.json describes does not use ({len(body)} "
            "such tensors)"
        )
    if left:
        job.events.message(
            f"{given.name}: left out what belongs to another task's head ({left[0]}, {len(left)} tensors)"
        )


def _resize(model: Any, rows: int) -> None:
    """Give the word embedding ``rows`` rows; new ones begin as the mean of all."""
    before = model.get_input_embeddings().weight.data
    mean = before.mean(dim=0)
    model.resize_token_embeddings(rows, mean_resizing=False)
    model.get_input_embeddings().weight.data[len(before) :] = mean


def _save(model: Any, out: Path) -> None:
    """Save a model under its own names: transformers writes those of the checkpoint that it was read from."""
    model.save_pretrained(out, save_original_format=False)
    source = SafetensorsSource.from_folder(out)
    fitted = fit_checkpoint(source, build_skeleton(out), out)
    if fitted.renamed:
        rewrite_checkpoint(fitted.apply(source), out)


def _padding(encoder: TextEncoder, stated: int | None, folder: Path) -> int:
    """A token that ends no text, for a decoder's head takes the last one that is another.

    Raises InputError for a tokenizer that has none: no pad token, and an end that it puts behind every text.
    """
    if encoder.named_pad is not None:
        return encoder.named_pad
    if stated is not None and stated >= 0:
        return stated
    if encoder.end is None or encoder.encode("a").ids[-1] == encoder.end:
        raise InputError(
            f"{folder}: its tokenizer names no pad token, which a head on the last token needs; name pad_token "
            "in tokenizer_config.json"
        )
    return encoder.end


def _refuse_lowering(sentence: SentenceFiles, tokenizer: Path, given: Path) -> None:
    """Raise InputError where sentence-transformers would lower the case of texts and the tokenizer does not."""
    if not sentence.lowers:
        return
    encoder = TextEncoder(tokenizer, WHOLE)
    if encoder.encode("A B C").ids != encoder.encode("a b c").ids:
        raise InputError(
            f"{given}: do_lower_case: sentence-transformers lowers the case of every text, and its tokenizer "
            "does not; that is not supported yet"
        )


def _keep_dense(sentence: SentenceFiles, given: Path, out: Path) -> None:
    """Put the linear layers over a text's vector beside the model, in float32. Raises InputError."""
    for layer in sentence.pooling.dense:
        path = given / layer.folder / WEIGHTS
        tensors = {name: one.to(torch.float32) for name, one in load_file(path).items()}
        for name, tensor in tensors.items():
            if not all_finite(tensor):
                raise InputError(f"{path}: {name} holds NaN or infinite values")
        (out / layer.folder).mkdir()
        save_file(tensors, out / layer.folder / WEIGHTS)


def context_length(config: Mapping[str, Any]) -> int:
    """Tokens that a text may have: fewer than positions where those begin behind the padding token."""
    positions = int(config["max_position_embeddings"])
    kind = config.get("model_type")
    if kind not in _FROM_PADDING:
        return positions
    # MPNet's padding is the token 1, whatever its configuration says.
    padding = 1 if kind == "mpnet" else int(config.get("pad_token_id") or 0)
    return positions - padding - 1


def _new_modules(missing: Iterable[str], prefix: str) -> set[str]:
    """The modules that missing weights belong to: of the head its top level, of the body the level below it."""
    return {key.removeprefix(f"{prefix}.").partition(".")[0] for key in missing}
