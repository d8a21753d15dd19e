"""How the one number of a ranker's head becomes a score, and what training holds it against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgepeft.errors import InputError

_PACKAGE, _OLDER = "sentence_transformers", "sbert_ce_default_activation_function"
_ACTIVATIONS: dict[str, Literal["sigmoid", "identity"]] = {
    "Sigmoid": "sigmoid",
    "Identity": "identity",
}


@dataclass(frozen=True)
class Scoring:
    """``loss`` is binary cross-entropy of the number's sigmoid, or its squared error; ``activation`` makes a
    score of the number on the device, as sentence-transformers' CrossEncoder does.
    """

    loss: Literal["bce", "mse"] = "bce"
    activation: Literal["sigmoid", "identity"] = "sigmoid"


def scoring_of(config: Mapping[str, Any], path: Path, scores: Iterable[float]) -> Scoring:
    """The scoring of a model by its configuration (of the folder ``path``) and the rows' ``scores``.

    Scores from 0 to 1 are probabilities, others are values. What the model's files say of its activation holds;
    else probabilities go through a sigmoid. Raises InputError for an activation that is not supported, and one
    that can't give the rows' scores.
    """
    named = _activation(config, path)
    bounded = all(0 <= score <= 1 for score in scores)
    if not bounded and named == "sigmoid":
        raise InputError(
            f"model: {path}: its scores go through a sigmoid, from 0 to 1, and the rows have others; bring the "
            "column score into that range"
        )
    # A bare number that says it is a regression's was held against values.
    valued = not bounded or (config.get("problem_type") == "regression" and named != "sigmoid")
    return Scoring("mse" if valued else "bce", named or ("identity" if valued else "sigmoid"))


def _activation(config: Mapping[str, Any], path: Path) -> Literal["sigmoid", "identity"] | None:
    """What sentence-transformers wrote of a cross-encoder's activation. Raises InputError."""
    package = config.get(_PACKAGE)
    key, said = f"{_PACKAGE}.activation_fn", None
    if isinstance(package, dict):
        said = package.get("activation_fn")
    if said is None:
        key, said = _OLDER, config.get(_OLDER)
    if said is None:
        return None
    name = str(said).rpartition(".")[2]
    if not str(said).startswith("torch.nn.modules.") or name not in _ACTIVATIONS:
        raise InputError(
            f"{path / 'config.json'}: {key}: {said} is not supported; its activation must be Sigmoid or Identity "
            "of torch"
        )
    return _ACTIVATIONS[name]
