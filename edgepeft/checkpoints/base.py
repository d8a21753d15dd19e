"""The base stage: whatever the recipe calls a model becomes a folder that every later stage can read.

A Hugging Face folder keeps its weights where they are; a GGUF file is dequantized once, with transformers' own
mapping, to float32 safetensors. Weights are copied only where names, rows or the head must change. The
tokenizer is saved in its fast form in every case, because the runtime on the device reads ``tokenizer.json``
alone.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepeft.checkpoints.base_stage import BaseResult, BaseSettings, base_facts
from edgepeft.checkpoints.fingerprint import fingerprint
from edgepeft.checkpoints.fit import fit_checkpoint, refuse_infinite, refuse_other_buffers
from edgepeft.checkpoints.gguf_stage import stage_gguf
from edgepeft.checkpoints.quantized import dequantize_into
from edgepeft.checkpoints.safetensors_io import SafetensorsSource, rewrite_checkpoint
from edgepeft.checkpoints.skeleton import build_skeleton
from edgepeft.checkpoints.source import TensorSource
from edgepeft.checkpoints.vocabulary import add_to_tokenizer, reshaped, rows_for
from edgepeft.compat.transformers_gguf_reading import each_file_read_once
from edgepeft.data.tokenizer_files import read_chat_template
from edgepeft.errors import InputError, one_line
from edgepeft.models.gguf_header import read_gguf_header
from edgepeft.models.inspect import inspect_model
from edgepeft.models.older_keys import in_todays_keys
from edgepeft.models.quantized import Rounded
from edgepeft.models.tasks import GENERATION
from edgepeft.models.text_part import is_beside
from edgepeft.models.tokenizer_overlay import lay_over
from edgepeft.models.tokens import TOKENIZER, read_vocabulary, refuse_beyond
from edgepeft.stages.job import Job


def run(job: Job[BaseSettings]) -> BaseResult:
    """Stage function. Inputs: ``model`` (folder or .gguf), and ``tokenizer`` (an adapter's folder) where the
    adapter brings one of its own. Raises InputError.
    """
    model, settings = job.inputs["model"], job.settings
    tokens = settings.tokens
    own = job.inputs.get("tokenizer")
    info, stored = inspect_model(model), job.out
    rounded: Rounded | None = None
    if model.is_file():
        stage_gguf(model, job.out)
    else:
        copy_settings(model, job.out)
        rounded = info.rounded if settings.task == GENERATION else None
        if rounded is not None:
            dequantize_into(model, rounded, build_skeleton(job.out), job.out)
        else:
            stored = model
    if info.inside is not None:
        _write(job.out / "config.json", dict(info.config))
    with each_file_read_once():
        vocabulary = save_tokenizer(model, job.out, tokens, own)
    skeleton, source = build_skeleton(job.out), SafetensorsSource.from_folder(stored)
    if info.inside is not None:
        source = source.without([name for name in source.specs if is_beside(name)])
    fitted = fit_checkpoint(source, skeleton, model)
    refuse_other_buffers(source, fitted.names, skeleton, model)
    for note in fitted.notes:
        job.events.message(f"{model.name}: {note}")
    if stored == model:
        refuse_infinite(source, fitted.names, model, _counter(job, len(fitted.names)))
    whole: TensorSource = fitted.apply(source)
    prints = dict.fromkeys((fingerprint(source), fingerprint(fitted.apply(source))))
    if rounded is not None:
        prints[fingerprint(SafetensorsSource.from_folder(model, codes=True))] = None
    config = _read(job.out / "config.json")
    size = max(vocabulary.values()) + 1
    rows = settings.rows or (rows_for(size, config) if tokens else int(config["vocab_size"]))
    refuse_beyond(vocabulary, rows, own or model)
    stays, changes = int(config["vocab_size"]), dict[str, Any]()
    if rows != config["vocab_size"] or settings.own_head:
        whole, changes = reshaped(whole, skeleton, rows, own_head=settings.own_head)
    weights, dropped = "." if stored == job.out else str(model), fitted.dropped
    if changes or fitted.renamed or info.inside is not None:
        rewrite_checkpoint(whole, job.out)
        _write(job.out / "config.json", in_todays_keys(config) | changes)
        weights, dropped = ".", ()
    return BaseResult(
        weights=weights,
        architecture=config["architectures"][0],
        dropped=tuple(dropped),
        rows=None if stays == rows else rows,
        renamed=fitted.foreign and info.inside is None,
        inside=info.inside,
        fingerprints=tuple(prints),
        **({} if rounded is None else _on_grid(rounded)),
    )


def _on_grid(rounded: Rounded) -> dict[str, Any]:
    """What later stages need to know of a base that came rounded."""
    found: dict[str, Any] = {"on_grid": tuple(rounded.weights), "quantization": rounded.method}
    if rounded.grid is not None:
        found |= {"grid": rounded.grid.grid, "block_size": rounded.grid.block_size}
    return found


def checkpoint_folder(base: Path) -> Path:
    """The folder with ``config.json`` and weights that a finished base stage points to."""
    weights = Path(base_facts(base).weights)
    return weights if weights.is_absolute() else base


def open_base(base: Path) -> SafetensorsSource:
    """The base's weights as a lazy source, without those that the model does not need. Raises InputError."""
    source = SafetensorsSource.from_folder(checkpoint_folder(base))
    return source.without(base_facts(base).dropped)


def base_fingerprints(base: Path) -> frozenset[str]:
    """Fingerprints of a finished base stage: of the model that it was made of, and of what it is now."""
    return frozenset({*base_facts(base).fingerprints, fingerprint(open_base(base))})


def _counter(job: Job[BaseSettings], total: int) -> Callable[[], None]:
    done = 0
    job.events.progress(0, total)

    def step() -> None:
        nonlocal done
        done += 1
        job.events.progress(done, total)

    return step


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _write(path: Path, config: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def copy_settings(model: Path, out: Path) -> None:
    """Copy a model folder's configuration and its settings for generation."""
    for name in ("config.json", "generation_config.json"):
        if (model / name).is_file():
            shutil.copyfile(model / name, out / name)


def save_tokenizer(
    model: Path, out: Path, tokens: Sequence[str] = (), own: Path | None = None
) -> dict[str, int]:
    """Write a model's tokenizer (folder or .gguf) into ``out`` in its fast form; every token and its id.

    ``own`` is an adapter's folder, whose tokenizer and template go over the model's; ``tokens`` are added. Raises
    InputError.
    """
    if own is None:
        tokenizer = _load_tokenizer(model)
        if model.is_dir() and tokenizer.chat_template is None:
            # That of a processor lies in a file which a tokenizer does not read.
            found = read_chat_template(model)
            tokenizer.chat_template = found and found[0]
    else:
        with tempfile.TemporaryDirectory(dir=out) as scratch:
            base = model
            if model.is_file():
                base = Path(scratch) / "base"
                _load_tokenizer(model).save_pretrained(base)
            laid = Path(scratch) / "laid"
            laid.mkdir()
            lay_over(base, own, laid)
            tokenizer = _load_tokenizer(laid, own)
    add_to_tokenizer(tokenizer, tokens)
    tokenizer.save_pretrained(out)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    made_up = _made_up(model, own, vocabulary).difference(tokens)
    _take_out(made_up, out)
    return {token: index for token, index in vocabulary.items() if token not in made_up}


def _made_up(model: Path, own: Path | None, vocabulary: Mapping[str, int]) -> set[str]:
    """Tokens that no file of a model or adapter names: transformers gives some classes of tokenizers an end of
    text of their own, with an id behind all others and so behind the embedding's last row.
    """
    named = None if own is None else read_vocabulary(own)
    if named is None and model.is_file():
        listed = len(read_gguf_header(model).tokens)
        return {token for token, index in vocabulary.items() if index >= listed}
    named = named or read_vocabulary(model)
    if named is None:
        return set()
    beside = [folder / name for folder in (model, own) if folder is not None for name in _NAMING]
    texts = [path.read_text(encoding="utf-8") for path in beside if path.is_file()]
    return {
        token
        for token in vocabulary.keys() - named.keys()
        if not any(spelled in text for text in texts for spelled in _spellings(token))
    }


def _spellings(token: str) -> tuple[str, str]:
    """A token as JSON may write it."""
    return json.dumps(token)[1:-1], json.dumps(token, ensure_ascii=False)[1:-1]


_NAMING = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
"""Files beside a tokenizer that may give it tokens."""


def _take_out(tokens: Collection[str], folder: Path) -> None:
    """Take tokens out of a saved tokenizer."""
    if not tokens:
        return
    path = folder / TOKENIZER
    whole = json.loads(path.read_text(encoding="utf-8"))
    whole["added_tokens"] = [one for one in whole["added_tokens"] if one["content"] not in tokens]
    path.write_text(json.dumps(whole, ensure_ascii=False) + "\n", encoding="utf-8")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        if path.is_file():
            said = json.loads(path.read_text(encoding="utf-8"))
            kept = {
                key: [one for one in value if one not in tokens]
                if isinstance(value, list)
                else value
                for key, value in said.items()
                if not (isinstance(value, str) and value in tokens)
            }
            path.write_text(json.dumps(kept, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _load_tokenizer(model: Path, named: Path | None = None) -> Any:
    """A fast tokenizer of a folder or a GGUF file; ``named`` is what an error calls it."""
    from transformers import AutoTokenizer

    where = named or model
    try:
        if model.is_file():
            tokenizer = AutoTokenizer.from_pretrained(model.parent, gguf_file=model.name)
        else:
            tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except (ValueError, KeyError, OSError, TypeError, ImportError) as error:
        raise InputError(f"{where}: its tokenizer can't be read: {one_line(error)}") from None
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{where}: its tokenizer has no fast form (tokenizer.json), which devices need"
        )
    return tokenizer
