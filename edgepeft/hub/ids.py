"""What names something on the hub: ``org/name@revision``, and ``hf://datasets/…`` for rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from edgepeft.errors import InputError

Kind = Literal["model", "dataset"]

ROWS = "hf://"
"""What rows on the hub begin with, which no path does."""
_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_REPO = rf"{_NAME}/{_NAME}"
# A revision has no slash but for these two kinds of references, as huggingface_hub's own file system has it.
_SHORT = r"refs/convert/[^/#@]+|refs/pr/\d+|[^/#@]+"
_ID = re.compile(rf"({_REPO})(?:@([^#@\s]+))?")
_DATASET = re.compile(rf"{ROWS}datasets/({_REPO})(?:@({_SHORT}))?(?:/([^#]+))?(?:#(.+))?")
_SNAPSHOT = re.compile(r"(model|dataset)s--(.+)")


@dataclass(frozen=True)
class RepoId:
    """A repository of the hub, at a branch, tag or commit; None is its default branch."""

    repo: str
    revision: str | None = None
    kind: Kind = "model"

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"

    @property
    def page(self) -> str:
        """The path of its page on the hub."""
        return self.repo if self.kind == "model" else f"datasets/{self.repo}"


@dataclass(frozen=True)
class RowsId:
    """Rows of a dataset: the file ``path`` of its repository, or the ``split``; the other one is empty."""

    dataset: RepoId
    path: str = ""
    split: str = ""


@dataclass(frozen=True)
class Origin:
    """Where a folder of the hub's cache came from."""

    repo: str
    commit: str
    kind: Kind


def parse_id(text: str) -> RepoId | None:
    """The repository that ``org/name`` or ``org/name@revision`` names; None for any other text."""
    found = _ID.fullmatch(text)
    return None if found is None else RepoId(found[1], _revision(found[2]))


def without_revision(name: str) -> tuple[str, str | None]:
    """A base's name and the revision it was asked for at: other programs keep these apart."""
    found = parse_id(name)
    return (name, None) if found is None else (found.repo, found.revision)


def parse_rows(text: str) -> RowsId:
    """What ``hf://datasets/…`` names. Raises InputError."""
    found = _DATASET.fullmatch(text)
    if found is None:
        raise InputError(
            f"{text}: not a dataset on the hub; write it as hf://datasets/org/name@revision/train.jsonl, or "
            "hf://datasets/org/name#train for a split"
        )
    repo, revision, path, split = found.groups()
    if bool(path) == bool(split):
        said = "says a file and a split" if path else "says neither file nor split"
        raise InputError(
            f"{text}: {said}; name a file, as hf://datasets/{repo}/train.jsonl, or a split, as "
            f"hf://datasets/{repo}#train"
        )
    return RowsId(RepoId(repo, _revision(revision), "dataset"), path or "", split or "")


def origin_of(path: Path) -> Origin | None:
    """The repository and commit of a path in the hub's cache; None for a path elsewhere."""
    parts = path.parts
    for above, snapshots, commit in zip(parts, parts[1:], parts[2:], strict=False):
        found = _SNAPSHOT.fullmatch(above)
        if found is not None and snapshots == "snapshots":
            kind: Kind = "model" if found[1] == "model" else "dataset"
            return Origin(found[2].replace("--", "/"), commit, kind)
    return None


def _revision(text: str | None) -> str | None:
    return None if text is None else unquote(text)
