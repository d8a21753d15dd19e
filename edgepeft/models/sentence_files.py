"""The files of sentence-transformers in a model's folder: how the vectors of a text's tokens become one.

``modules.json`` lists what a text goes through. What is carried is a transformer, a pooling, linear layers over
its vector (Dense) and a normalization; any other module, and whatever else would change the vectors, is refused
by name. Formats:
https://sbert.net/docs/package_reference/sentence_transformer/models.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgepeft.errors import InputError
from edgepeft.models.dense_files import (
    WEIGHTS,
    DenseLayer,
    check_chain,
    module_settings,
    read_dense,
)
from edgepeft.utils.files import read_json_object, read_text_file

MODULES = "modules.json"
CONFIG = "config_sentence_transformers.json"
TRANSFORMER = "sentence_*_config.json"
_CARRIED = ("Transformer", "Pooling", "Dense", "Normalize", "Dropout")
_USUAL = {"Pooling": "1_Pooling"}
Mode = Literal["mean", "cls", "last"]
_MODES: dict[str, Mode] = {
    "mean": "mean",
    "mean_tokens": "mean",
    "cls": "cls",
    "cls_token": "cls",
    "lasttoken": "last",
}
_MODE = "pooling_mode_"
_SAYS_NOTHING = ("word_embedding_dimension", "embedding_dimension", "include_prompt")
_COSINE = (None, "cosine", "cos_sim")


@dataclass(frozen=True)
class Pooling:
    """How the vectors of a text's tokens become one: their mean, the first or the last one, then linear layers
    over it, then unit length or not.
    """

    mode: Mode = "mean"
    normalize: bool = True
    dense: tuple[DenseLayer, ...] = ()


@dataclass(frozen=True)
class SentenceFiles:
    """What a folder's sentence-transformers files say.

    ``max_tokens`` is the longest text, special tokens included, None where they set no limit; ``lowers`` whether
    texts are made lower case before the tokenizer reads them; ``notes`` are worth a word.
    """

    pooling: Pooling
    max_tokens: int | None
    lowers: bool
    notes: tuple[str, ...] = ()


def has_sentence_files(folder: Path) -> bool:
    """Whether a folder says anything of pooling."""
    return folder.is_dir() and ((folder / MODULES).exists() or (folder / "1_Pooling").exists())


def sentence_files(folder: Path) -> list[str]:
    """The names, in ``folder``, of the files that decide about vectors; none where none says anything of them."""
    if not has_sentence_files(folder):
        return []
    modules = (f"[0-9]*_*/{name}" for name in ("config.json", WEIGHTS))
    patterns = (MODULES, CONFIG, TRANSFORMER, *modules)
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(str(path.relative_to(folder)) for path in found)


def read_sentence_files(folder: Path) -> SentenceFiles:
    """Read them; the mean at unit length where there are none. Raises InputError for what is not supported."""
    if not has_sentence_files(folder):
        return SentenceFiles(Pooling(), None, False)
    modules = _modules(folder)
    kinds = [kind for kind, _ in modules]
    places = dict(modules)
    pooling = _mode(places["Pooling"]) if "Pooling" in places else "mean"
    notes = _settings_notes(folder)
    named = {place.resolve() for place in places.values()}
    notes += [
        f"{folder.name}: {entry.name}/: {MODULES} does not name it, so it is not used"
        for entry in sorted(folder.glob("[0-9]_*/"))
        if entry.resolve() not in named
    ]
    limit, lowers = None, False
    for path in sorted(places.get("Transformer", folder).glob(TRANSFORMER)):
        said = read_json_object(path)
        limit = said.get("max_seq_length")
        lowers = said.get("do_lower_case") is True
        if limit is not None and (type(limit) is not int or limit < 3):
            raise InputError(f"{path}: max_seq_length: {limit} is no number of tokens")
    dense = tuple(read_dense(place) for kind, place in modules if kind == "Dense")
    check_chain(folder, dense, None)
    found = Pooling(pooling, "Normalize" in kinds, dense)
    return SentenceFiles(found, limit, lowers, tuple(notes))


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """Class and folder of every module, in order. Raises InputError for one that is not carried."""
    path = folder / MODULES
    try:
        listed = json.loads(read_text_file(path))
        found = [(str(one["type"]), one.get("path")) for one in listed]
    except FileNotFoundError:
        raise InputError(
            f"{folder}: has 1_Pooling and no {MODULES}, which says what it is for"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not readable ({error})") from None
    modules = []
    for kind, named in found:
        name = kind.rpartition(".")[2]
        place = str(named if named is not None else _USUAL.get(name, ""))
        if not kind.startswith("sentence_transformers.") or name not in _CARRIED:
            raise InputError(
                f"{path}: its module {name} changes the vectors and is not supported yet; "
                f"{', '.join(_CARRIED[:4])} are"
            )
        if Path(place).is_absolute() or ".." in Path(place).parts:
            raise InputError(f"{path}: {place}: lies outside the model's folder")
        if name == "Transformer" and place not in ("", "."):
            raise InputError(
                f"{path}: keeps its transformer in {place}; move the files there to {folder} and empty its path"
            )
        modules.append((name, folder / place))
    order = [name for name, _ in modules if name != "Dropout"]
    rest = [name for name in order[2:] if name != "Dense"]
    last = rest == [] or (rest == ["Normalize"] and order[-1] == "Normalize")
    if order[:2] != ["Transformer", "Pooling"] or not last:
        raise InputError(
            f"{path}: goes through {', '.join(order) or 'nothing'}; what is supported is a Transformer, then a "
            "Pooling, then perhaps Dense modules and a Normalize"
        )
    return modules


def _mode(folder: Path) -> Mode:
    """The one kind of pooling that a module's configuration switches on. Raises InputError."""
    modes = _modes(module_settings(folder))
    if len(modes) == 1 and modes[0] in _MODES:
        return _MODES[modes[0]]
    named = ", ".join(modes) or "nothing"
    raise InputError(
        f"{folder / 'config.json'}: pools by {named}; only mean, cls and lasttoken are supported"
    )


def _modes(said: Mapping[str, Any]) -> list[str]:
    """The kinds of pooling that are on: flags of their own, or one key that names them."""
    flags = [key.removeprefix(_MODE) for key, on in said.items() if key.startswith(_MODE) and on]
    named = said.get("pooling_mode")
    more = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    unknown = [
        key
        for key, value in said.items()
        if value and not key.startswith("pooling_mode") and key not in _SAYS_NOTHING
    ]
    return sorted({*flags, *map(str, more), *unknown})


def _settings_notes(folder: Path) -> list[str]:
    """What the model's own settings add. Raises InputError where they change every vector."""
    path = folder / CONFIG
    try:
        said = read_json_object(path)
    except FileNotFoundError:
        return []
    prompts = said.get("prompts") or {}
    default = said.get("default_prompt_name")
    if not isinstance(prompts, dict):
        raise InputError(f"{path}: prompts: must map names to texts")
    if default is not None and prompts.get(default) != "":
        raise InputError(
            f"{path}: default_prompt_name: puts the prompt {default} before every text, which is not supported "
            "yet; write it into the rows and the texts that are asked for, and set default_prompt_name to null"
        )
    if said.get("truncate_dim"):
        raise InputError(
            f"{path}: truncate_dim: cuts every vector to {said['truncate_dim']} numbers, which is not "
            "supported yet"
        )
    notes = []
    named = sorted(name for name, text in prompts.items() if text)
    if named:
        notes.append(
            f"{CONFIG} has the prompts {', '.join(named)}; nothing puts them before a text here, so write them "
            "into the rows and the texts that are asked for"
        )
    if said.get("similarity_fn_name") not in _COSINE:
        notes.append(
            f"{CONFIG} compares by {said['similarity_fn_name']}; the measures here compare by cosine"
        )
    return notes
