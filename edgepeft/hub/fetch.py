"""What is downloaded of a repository: a model's or an adapter's files, a dataset's rows; never code or pickles.

A command asks once for each thing, so that all of it is of one commit.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from edgepeft.data.formats import SHARDS, SUFFIXES
from edgepeft.errors import InputError, MissingError
from edgepeft.hub.errors import refused, said_of, unreachable
from edgepeft.hub.ids import RepoId, parse_rows
from edgepeft.hub.metadata import CARD, read_card
from edgepeft.hub.splits import files_of_split
from edgepeft.utils.files import read_json
from edgepeft.utils.hub_progress import hub_bars, quiet_client, tell_download
from edgepeft.utils.user_folders import cache_folder
from edgepeft.utils.whole_files import new_folder

_TEXTS = ("*.json", "*.jinja", "*.model", "vocab.txt", "merges.txt", "README.md")
_MODEL = (*_TEXTS, "*.safetensors")
_ADAPTER = (*_TEXTS, "adapter_model.safetensors", "edgepeft_initial.safetensors")
_ASIDE = (
    *("*/*.safetensors", "consolidated*", "model.*.safetensors"),
    *("checkpoint-*/*", "onnx/*", "openvino/*", "original/*", "runs/*"),
)
"""Other forms of a model's weights, and what a trainer left."""
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


class Rows(NamedTuple):
    """Rows of a dataset: one file, or a folder with ``files``, those of the repository, in their order."""

    path: Path
    commit: str
    files: tuple[str, ...]


def model_folder(asked: RepoId, subject: str) -> Path:
    """The folder of a model. ``subject`` begins an error. Raises InputError, MissingError."""
    folder = _snapshot(asked, _MODEL, _ASIDE, subject)
    if dense := _dense_folders(folder):
        files = tuple(f"{name}/model.safetensors" for name in dense)
        # Of the same commit, wherever a branch has gone since.
        same = replace(asked, revision=folder.name)
        folder = _snapshot(same, (*_TEXTS, *files), (), subject)
    if not any(folder.glob("*.safetensors")):
        _refuse_weights(asked, folder, subject, "model.safetensors")
    return folder


def _dense_folders(folder: Path) -> list[str]:
    """The folders of linear layers that sentence-transformers puts behind a model."""
    path = folder / "modules.json"
    listed = read_json(path) if path.is_file() else []
    if not isinstance(listed, list):
        return []
    return [
        str(module["path"])
        for module in listed
        if isinstance(module, dict)
        and str(module.get("type")).endswith(".Dense")
        and module.get("path")
    ]


def adapter_folder(asked: RepoId, subject: str) -> Path:
    """The folder of a PEFT adapter. ``subject`` begins an error. Raises InputError, MissingError."""
    folder = _snapshot(asked, _ADAPTER, _ASIDE, subject)
    if not (folder / "adapter_config.json").is_file():
        model = "; it is a model's: name it as model" if (folder / "config.json").is_file() else ""
        raise InputError(f"{subject}: not a PEFT adapter (no adapter_config.json){model}")
    if not (folder / "adapter_model.safetensors").is_file():
        _refuse_weights(asked, folder, subject, "adapter_model.safetensors")
    return folder


@functools.cache
def rows(text: str) -> Rows:
    """The rows that ``hf://datasets/…`` names. Raises InputError, MissingError."""
    asked = parse_rows(text)
    dataset = asked.dataset
    if asked.path and not asked.path.lower().endswith(SUFFIXES):
        raise InputError(f"{text}: rows come as {', '.join(SUFFIXES)}; name such a file")
    # The card comes first, and with it the commit that all else is then taken from.
    folder = _snapshot(dataset, (CARD,), (), text)
    there = _listing(dataset, folder.name, text)
    names = _local(folder) if there is None else there
    if asked.split:
        # Without the hub only what was downloaded before is known: less than a card speaks of is no mistake.
        try:
            files = files_of_split(names, read_card(folder), asked.split, text)
        except InputError:
            if there is None:
                raise _not_cached(text) from None
            raise
    elif asked.path in names:
        files = [asked.path]
    elif there is None:
        raise _not_cached(text)
    else:
        readable = [name for name in names if name.lower().endswith(SUFFIXES)]
        raise InputError(
            f"{text}: {dataset} has no file {asked.path}{said_of(asked.path, readable)}"
        )
    pinned = RepoId(dataset.repo, folder.name, "dataset")
    folder = _snapshot(pinned, tuple(glob.escape(file) for file in files), (), text)
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise _not_cached(text)
    path = folder / files[0] if len(files) == 1 else _together(folder, files, asked.split)
    return Rows(path, folder.name, tuple(files))


def _together(folder: Path, files: Sequence[str], split: str) -> Path:
    """A folder of links to the shards of a split, numbered in their order."""
    key = hashlib.sha256("\0".join([str(folder), *files]).encode()).hexdigest()[:16]
    made = cache_folder() / "splits" / key / f"{PurePosixPath(split).name}{SHARDS}"
    if not made.is_dir():
        with new_folder(made) as fresh:
            for number, file in enumerate(files):
                (fresh / f"{number:05d}{PurePosixPath(file).suffix.lower()}").symlink_to(
                    folder / file
                )
    return made


@functools.cache
def _snapshot(asked: RepoId, allow: tuple[str, ...], ignore: tuple[str, ...], subject: str) -> Path:
    """The folder of a repository's files, of which those are there that the patterns let through."""
    from huggingface_hub import snapshot_download

    quiet_client()
    try:
        found = snapshot_download(
            asked.repo,
            repo_type=asked.kind,
            revision=asked.revision,
            allow_patterns=list(allow),
            ignore_patterns=list(ignore),
            # The client shows some of its bars in logs too.
            tqdm_class=hub_bars(hidden=not sys.stderr.isatty()),
        )
    except Exception as error:  # the client raises many kinds, of its own and of others
        raise refused(error, asked, subject) from None
    tell_download(f"{asked.page}: commit {Path(found).name}")
    return Path(found)


def _listing(asked: RepoId, commit: str, subject: str) -> list[str] | None:
    """Every file of a repository at a commit; None where the hub can't be asked."""
    from huggingface_hub import HfApi

    try:
        return HfApi().list_repo_files(asked.repo, repo_type=asked.kind, revision=commit)
    except Exception as error:  # as above
        if unreachable(error):
            return None
        raise refused(error, asked, subject) from None


def _local(folder: Path) -> list[str]:
    return sorted(
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
    )


def _not_cached(subject: str) -> MissingError:
    return MissingError(
        f"{subject}: is not in the hub's cache, and the hub can't be asked; unset HF_HUB_OFFLINE or check the "
        "network, or name a local path"
    )


def _refuse_weights(asked: RepoId, folder: Path, subject: str, wanted: str) -> None:
    """Raise InputError for a repository without safetensors, saying what it has instead."""
    if not wanted.startswith("adapter") and (folder / "adapter_config.json").is_file():
        raise InputError(
            f"{subject}: is a PEFT adapter; name it as adapter, with its base as model"
        )
    names = _listing(asked, folder.name, subject) or []
    for ending, why in (
        ((".gguf",), "only GGUF files; download one (`hf download`) and name the file"),
        (_PICKLES, f"only pickles or other forms, which are never read; save it as {wanted}"),
    ):
        if there := [name for name in names if name.lower().endswith(ending)]:
            raise InputError(f"{subject}: has no {wanted}, {why} (it has {there[0]})")
    raise InputError(f"{subject}: has no {wanted}, so there are no weights to read")
