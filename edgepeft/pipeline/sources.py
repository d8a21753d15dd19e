"""Which repositories of the hub a recipe's things are from, each at the commit that was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepeft.config.loader import RecipeFile
from edgepeft.config.recipe import Recipe
from edgepeft.evaluation.card_metadata import Origins
from edgepeft.hub.ids import ROWS, Kind, Origin, origin_of, parse_rows
from edgepeft.hub.metadata import license_of
from edgepeft.models import KNOWN_MODELS


@dataclass(frozen=True)
class Source:
    """What the recipe's ``key`` names: a repository at a commit, and of a dataset the files that were read."""

    key: str
    named: str
    repo: str
    kind: Kind
    commit: str
    files: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON form, as a run's record and a bundle's report keep it."""
        return {**asdict(self), "files": list(self.files)}


def sources_of(file: RecipeFile, model: Path) -> tuple[Source, ...]:
    """The sources of a recipe whose ``model`` was found, in the order of its keys.

    All of them were downloaded before, and are not asked for again. Raises InputError, MissingError.
    """
    recipe = file.recipe
    found = [*_folder("model", recipe.model, origin_of(model))]
    parts = recipe.adapter if isinstance(recipe.adapter, list) else []
    adapters = [("adapter", recipe.adapter)] if isinstance(recipe.adapter, str) else []
    rows = [("data.train", recipe.data.train), ("data.test", recipe.data.test)]
    for number, part in enumerate(parts):
        adapters.append((f"adapter[{number}]", part.path))
        rows.append((f"adapter[{number}].rows", part.rows))
    for one in recipe.adapters:
        adapters.append((f"adapters.{one.name}", one.path))
        rows.append((f"adapters.{one.name}.test", one.test))
    for key, named in adapters:
        found += _folder(key, named, origin_of(file.adapter_folder(named)))
    for key, value in rows:
        if value is not None and value.startswith(ROWS):
            found.append(_dataset(key, value))
    return tuple(found)


def split_notes(named: Mapping[str, str | None]) -> list[str]:
    """Which files stand for the splits that keys name: a card or names of files chose them, not the user."""
    found = [
        _dataset(key, value)
        for key, value in named.items()
        if value is not None and value.startswith(ROWS) and "#" in value
    ]
    return [
        f"{source.key}: {source.named}: {', '.join(source.files)} at commit {source.commit[:12]}"
        for source in found
    ]


def origins_of(recipe: Recipe, model: Path, sources: tuple[Source, ...]) -> Origins:
    """What a bundle's card says of where it comes from; ``model`` is what the recipe's one lies at."""
    known = KNOWN_MODELS.get(recipe.model.lower())
    origin = origin_of(model)
    stated = license_of(model) if model.is_dir() else {}
    if known is not None and not stated:
        stated = {"license": known.licence.lower()}
    return Origins(
        origin.repo if origin is not None else known.hub_id if known is not None else None,
        stated,
        tuple(source.as_dict() for source in sources),
        recipe.data.system,
    )


def _folder(key: str, named: str, origin: Origin | None) -> Iterator[Source]:
    if origin is not None:
        yield Source(key, named, origin.repo, origin.kind, origin.commit)


def _dataset(key: str, named: str) -> Source:
    from edgepeft.hub.fetch import rows

    read = rows(named)
    return Source(key, named, parse_rows(named).dataset.repo, "dataset", read.commit, read.files)
