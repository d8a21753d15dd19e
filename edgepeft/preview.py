"""A recipe's data as the model will read it: layout, a few rows with what is learned of them, the checks."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgepeft.data.checks import check_data
from edgepeft.data.formats import read_layout, read_rows
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Row
from edgepeft.digests import DigestCache, cache_folder
from edgepeft.errors import InputError
from edgepeft.models import find_model, inspect_model
from edgepeft.recipe_file import RecipeFile
from edgepeft.requirements import require_libraries


def preview_data(recipe: RecipeFile, count: int = 3) -> dict[str, Any]:
    """Look a recipe's data over without building anything.

    Returns ``files`` (the layout of each split), ``rows`` (the first ``count`` training rows, each with
    ``where``, ``tokens`` and ``pieces``: texts and whether they are learned), ``mode`` (chat or plain) and
    ``report`` (that of ``check_data``; None without test rows). Raises InputError and MissingError as a build
    would.
    """
    data = recipe.recipe.data
    model = find_model(recipe.recipe.model, recipe.folder)
    inspect_model(model)
    splits: dict[str, list[Row]] = {"train": [], "test": []}
    files: dict[str, dict[str, Any]] = {}
    for split, name in (("train", data.train), ("test", data.test)):
        if name is None:
            continue
        path = recipe.resolve(name)
        splits[split] = read_rows(path, columns=data.columns, shape=data.shape, system=data.system)
        layout = read_layout(path, columns=data.columns, shape=data.shape)
        files[split] = {"path": str(path), **layout}
    if not files:
        raise InputError(
            "data.train: this key is required to train an adapter (or name an adapter)"
        )
    template = data.template
    if template not in ("auto", "chat", "plain"):
        template = str(recipe.resolve(template))
    prompter = Prompter.from_folder(_tokenizer_folder(model), template)
    shown = splits["train"] or splits["test"]
    report = None
    if splits["test"]:
        training = splits["train"] if recipe.recipe.adapter is None else []
        checked = check_data(training, splits["test"], prompter, max_length=data.max_length)
        report = checked.as_dict()
    return {
        "files": files,
        "mode": prompter.mode,
        "rows": [_as_read(row, prompter, data.max_length) for row in shown[:count]],
        "report": report,
    }


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


def _tokenizer_folder(model: Path) -> Path:
    """A folder with the model's fast tokenizer: its own, or one made once and kept in the user's cache."""
    if model.is_dir() and (model / "tokenizer.json").is_file():
        return model
    digests = DigestCache()
    digest = digests.file(model) if model.is_file() else digests.folder(model)
    digests.save()
    kept = cache_folder() / "tokenizers" / digest[:16]
    if not (kept / "tokenizer.json").is_file():
        require_libraries(["base"])
        from edgepeft.checkpoints.base import save_tokenizer

        kept.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=kept.parent))
        try:
            save_tokenizer(model, made)
            made.replace(kept)
        except OSError:
            # Another process was first; its folder is as good as ours.
            if not (kept / "tokenizer.json").is_file():
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return kept
