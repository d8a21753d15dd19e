"""Which files of a dataset's repository hold a split, by its card or by the usual names; no code is run.

The card's ``configs`` are as https://huggingface.co/docs/hub/datasets-manual-configuration has them; names
without a card are those of https://huggingface.co/docs/hub/datasets-file-names-and-splits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from edgepeft.data.formats import SUFFIXES
from edgepeft.errors import InputError
from edgepeft.hub.errors import said_of
from edgepeft.hub.metadata import front_matter

PREFERRED = (".parquet", *(suffix for suffix in SUFFIXES if suffix != ".parquet"))
"""The kind that is taken where a split comes in several."""
_WORDS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "validation": ("validation", "valid", "val", "dev"),
}
_EDGE = r"[-._ 0-9/]"
_SHARD = re.compile(r"(?:^|/)([^/]+?)-\d{5}-of-\d{5}[^/]*$")


@dataclass(frozen=True)
class Config:
    """A subset that a card declares: patterns of files for each split."""

    name: str
    default: bool
    splits: Mapping[str, tuple[str, ...]]


def files_of_split(names: Sequence[str], card: str, wanted: str, subject: str) -> list[str]:
    """The files of ``names`` that hold the split ``wanted``, in their order; one kind of file, at least one.

    ``wanted`` is a split, or config/split where the dataset has several subsets. Raises InputError.
    """
    config, _, split = wanted.rpartition("/")
    declared = _configs(front_matter(card))
    if declared:
        chosen = _chosen(declared, config, subject)
        if split not in chosen.splits:
            raise InputError(f"{subject}: no split {split}{said_of(split, list(chosen.splits))}")
        patterns = [re.compile(_regex(pattern)) for pattern in chosen.splits[split]]
        found = [name for name in names if any(one.fullmatch(name) for one in patterns)]
    else:
        inside = [name for name in names if not config or name.startswith(f"{config}/")]
        found = _by_name(inside, split)
        if not _readable(found):
            raise InputError(
                f"{subject}: no data file of a split {split}{said_of(split, _splits(inside))}; name one of its "
                "files, as hf://datasets/org/name/data.jsonl, or its Parquet form, as "
                "hf://datasets/org/name@refs/convert/parquet#train"
            )
    for suffix in PREFERRED:
        if files := sorted(name for name in found if name.lower().endswith(suffix)):
            return files
    kinds = sorted({PurePosixPath(name).suffix or name for name in found})
    raise InputError(
        f"{subject}: the files of split {split} can't be read ({', '.join(kinds) or 'there are none'}); rows "
        f"come as {', '.join(PREFERRED)}, and most datasets have a Parquet form: @refs/convert/parquet"
    )


def _configs(metadata: Mapping[str, Any]) -> list[Config]:
    """The subsets of a card that say where their files are."""
    given = metadata.get("configs")
    found = []
    for entry in given if isinstance(given, list) else ():
        if isinstance(entry, Mapping) and "data_files" in entry:
            folder = str(entry.get("data_dir") or "").strip("/")
            splits: dict[str, tuple[str, ...]] = {}
            for split, pattern in _patterns(entry["data_files"]):
                whole = f"{folder}/{pattern}" if folder else pattern
                splits[split] = (*splits.get(split, ()), whole.removeprefix("./"))
            name = str(entry.get("config_name", "default"))
            found.append(Config(name, entry.get("default") is True, splits))
    return found


def _patterns(value: Any, split: str = "train") -> Iterator[tuple[str, str]]:
    """Splits and patterns of ``data_files``: a pattern, a list, entries with split and path, or a mapping."""
    if isinstance(value, str):
        yield split, value
    elif isinstance(value, list):
        for item in value:
            yield from _patterns(item, split)
    elif isinstance(value, Mapping) and "path" in value:
        yield from _patterns(value["path"], str(value.get("split", split)))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _patterns(item, str(name))


def _chosen(configs: Sequence[Config], name: str, subject: str) -> Config:
    """The subset that is meant: the one named, the default, or the only one. Raises InputError."""
    names = [config.name for config in configs]
    if name:
        if name not in names:
            raise InputError(f"{subject}: no subset {name}{said_of(name, names)}")
        return configs[names.index(name)]
    usual = [one for one in configs if one.default] or [
        one for one in configs if one.name == "default" or len(configs) == 1
    ]
    if usual:
        return usual[0]
    raise InputError(
        f"{subject}: has several subsets ({', '.join(names[:12])}); name one, as #{names[0]}/train"
    )


def _by_name(names: Sequence[str], split: str) -> list[str]:
    """The files of a split by the usual names: shards, then a word of the file's name, then of a folder's."""
    shards = [name for name in names if (of := _SHARD.search(name)) and of[1] == split]
    if shards:
        return shards
    words = "|".join(map(re.escape, _WORDS.get(split, (split,))))
    word = re.compile(rf"(?:^|{_EDGE})(?:{words})(?:{_EDGE}|$)", re.IGNORECASE)
    for found in (
        [name for name in names if word.search(PurePosixPath(name).name)],
        [name for name in names if word.search(PurePosixPath(name).parent.as_posix())],
    ):
        if found:
            return found
    # A repository that names no split is all training rows.
    return [] if split != "train" or _splits(names) else _readable(names)


def _splits(names: Sequence[str]) -> list[str]:
    """The splits that the names of files tell of."""
    readable = _readable(names)
    shards = {of[1] for name in readable if (of := _SHARD.search(name))}
    words = {
        split
        for split, spellings in _WORDS.items()
        if re.search(
            rf"(?:^|{_EDGE})(?:{'|'.join(spellings)}){_EDGE}", "\n".join(readable), re.I | re.M
        )
    }
    return sorted(shards | words)


def _readable(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.lower().endswith(SUFFIXES)]


def _regex(pattern: str) -> str:
    """A card's pattern as a regular expression: a single star stops at a slash, two do not."""
    made = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?)", pattern):
        made += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(
            part, re.escape(part)
        )
    return made
