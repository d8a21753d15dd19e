"""A recipe's data as the model will read it: layout, a few rows with what is learned of them, the checks."""

from __future__ import annotations

import atexit
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepeft.adapters.base_needs import as_staged
from edgepeft.config.loader import RecipeFile
from edgepeft.data.checks import check_data
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Row
from edgepeft.data.text_checks import check_texts
from edgepeft.data.texts import WHOLE, TextEncoder
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.models import find_model, inspect_model
from edgepeft.models.task_resolution import resolve_task
from edgepeft.models.tasks import GENERATION
from edgepeft.models.tokenizer_overlay import BESIDE, VOCABULARY
from edgepeft.pipeline.kinds.registry import require_kinds
from edgepeft.pipeline.resolve import Adapters
from edgepeft.pipeline.sources import split_notes
from edgepeft.runs.digests import DigestCache
from edgepeft.tool_calling.row_checks import with_unread_calls
from edgepeft.utils.user_folders import cache_folder
from edgepeft.utils.whole_files import new_folder, scratch_folder


def preview_data(recipe: RecipeFile, count: int = 3) -> dict[str, Any]:
    """Look a recipe's data over without building anything.

    Returns ``files`` (the layout of each split, and which of its ``fields`` are used), ``notes`` (what is to be
    said of data, model and adapter), ``rows`` (the first ``count`` training rows, each with ``where``,
    ``tokens`` and ``pieces``: texts and whether they are learned), ``mode`` (chat, plain, or an encoder's task)
    and ``report`` (that of ``check_data``; None without test rows). Raises InputError and MissingError as a
    build would.
    """
    data = recipe.recipe.data
    model = find_model(recipe.recipe.model, recipe.folder)
    info = inspect_model(model)
    splits: dict[str, list[Row]] = {"train": [], "test": []}
    files: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    held_out: list[str] = []
    own_test = data.test if data.held_out is None else None
    for split, name in (("train", data.train), ("test", own_test)):
        if name is None:
            continue
        path = recipe.resolve(name)
        found = data.read(path)
        splits[split] = found.rows
        files[split] = {"path": str(path), **found.layout()}
        notes += found.usage.warnings()
    if not files:
        raise InputError(
            "data.train: this key is required to train an adapter; or give an existing adapter"
        )
    if data.held_out is not None and data.train is not None:
        splits["train"], splits["test"] = data.split(splits["train"])
        # Said, but no warning: it is what was asked for.
        held_out = [f"data.test: {len(splits['test'])} rows of data.train are held out"]
    shown = splits["train"] or splits["test"]
    task = resolve_task(recipe.recipe.task, info, [*splits["train"], *splits["test"]])
    needs, told = Adapters.read(recipe).needs(info, task, data.template)
    notes = [*told, *notes, *split_notes({"data.train": data.train, "data.test": data.test})]
    tokenizer = _tokenizer_folder(model, needs.tokenizer)
    if task != GENERATION:
        longest = min(data.max_length, as_staged(info, needs, task).context_length)
        return {
            "notes": [*notes, *held_out],
            "files": files,
            "mode": task,
            **_of_texts(recipe, tokenizer, splits, shown[:count], longest, notes),
        }
    prompter = Prompter.from_folder(tokenizer, recipe.template, data.control_tokens)
    report = None
    if splits["test"]:
        training = splits["train"] if recipe.recipe.adapter is None else []
        checked = check_data(
            training,
            splits["test"],
            prompter,
            max_length=data.max_length,
            objective=recipe.recipe.training.objective if training else "supervised",
            context=info.context_length,
            ids=None if data.tokens else info.vocab_size,
        )
        report = with_unread_calls(checked, prompter, [*training, *splits["test"]]).as_dict()
        report["warnings"] = [*notes, *report["warnings"]]
    return {
        "notes": [*notes, *held_out],
        "files": files,
        "mode": prompter.mode,
        "rows": [_as_read(row, prompter, data.max_length) for row in shown[:count]],
        "report": report,
    }


def _of_texts(
    recipe: RecipeFile,
    tokenizer: Path,
    splits: Mapping[str, list[Row]],
    shown: Sequence[Row],
    longest: int,
    notes: Sequence[str],
) -> dict[str, Any]:
    """Rows and report of an encoder's data: a text, and what is learned of it."""
    encoder = TextEncoder(tokenizer, WHOLE, recipe.recipe.data.control_tokens)
    training = splits["train"] if recipe.recipe.adapter is None else []
    report = None
    if splits["test"]:
        report = check_texts(training, splits["test"], encoder, max_length=longest).as_dict()
        report["warnings"] = [*notes, *report["warnings"]]
    rows = []
    for row in shown:
        pieces: list[dict[str, Any]] = [{"text": row.text, "learned": False}]
        if row.words is not None:
            tagged = zip(row.words, row.tags or (), strict=True)
            pieces = [
                piece
                for word, tag in tagged
                for piece in (
                    {"text": f"{word} ", "learned": False},
                    {"text": tag, "learned": True},
                )
            ]
        else:
            pieces += [{"text": text, "learned": False} for text in _read_too(row)]
            pieces += [{"text": text, "learned": True} for text in _learned(row)]
        tokens = len(encoder.encode(row.text or "", row.pair).ids)
        rows.append({"where": row.where, "tokens": tokens, "pieces": pieces})
    return {"rows": rows, "report": report}


def _read_too(row: Row) -> list[str]:
    """Texts that a model reads beside a row's own."""
    return [text for text in (row.pair, row.negative) if text is not None]


def _learned(row: Row) -> list[str]:
    """What a model learns of a row's texts."""
    if row.labels is not None:
        return [", ".join(row.labels) or "(none)"]
    if row.score is not None:
        return [f"{row.score:g}"]
    return [text for text in (row.label, row.positive) if text is not None]


def _as_read(row: Row, prompter: Prompter, max_length: int) -> dict[str, Any]:
    """A row cut to ``max_length`` tokens, its text in pieces of one loss mask each, special tokens included."""
    encoded = prompter.row(row)
    ids, mask = encoded.ids[:max_length], encoded.mask[:max_length]
    pieces: list[dict[str, Any]] = []
    start = 0
    for end in range(1, len(ids) + 1):
        if end == len(ids) or mask[end] != mask[start]:
            text = _spelled(prompter, ids[start:end])
            pieces.append({"text": text, "learned": bool(mask[start])})
            start = end
    return {"where": row.where, "tokens": len(encoded.ids), "pieces": pieces}


def _spelled(prompter: Prompter, ids: Sequence[int]) -> str:
    text: str = prompter.tokenizer.decode(list(ids), skip_special_tokens=False)
    return text


def _tokenizer_folder(model: Path, own: Path | None) -> Path:
    """A folder with the fast tokenizer that a build uses: the model's own, or one made once and kept in the
    user's cache, with an adapter's ``own`` files over it.
    """
    if own is None and model.is_dir() and os.path.lexists(model / "tokenizer.json"):
        return model
    digests = DigestCache()
    digest = digests.file(model) if model.is_file() else digests.folder(model)
    if own is not None:
        there = [name for name in (*VOCABULARY, *BESIDE) if (own / name).is_file()]
        digest = hashlib.sha256(f"{digest}{digests.folder(own, there)}".encode()).hexdigest()
    digests.save()
    kept = cache_folder() / "tokenizers" / digest[:16]
    if not (kept / "tokenizer.json").is_file():
        require_kinds(["base"])
        try:
            with new_folder(kept) as made:
                _write_tokenizer(model, made, own)
        except EdgepeftError:
            # Another process may have been first, whose folder is as good as ours. A cache need not be writable.
            if not (kept / "tokenizer.json").is_file():
                kept = _for_this_process()
                _write_tokenizer(model, kept, own)
    return kept


def _write_tokenizer(model: Path, folder: Path, own: Path | None) -> None:
    from edgepeft.checkpoints.base import copy_settings, save_tokenizer

    save_tokenizer(model, folder, own=own)
    if model.is_dir():
        copy_settings(model, folder)


def _for_this_process() -> Path:
    """A folder that goes when this process ends."""
    context = scratch_folder()
    atexit.register(context.__exit__, None, None, None)
    return context.__enter__()
