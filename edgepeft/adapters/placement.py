"""An adapter put where a model has its modules: names, patterns, single tokens, whole embeddings and heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from edgepeft.adapters.keys import PREFIX, language_model_of
from edgepeft.adapters.patterns import is_named
from edgepeft.adapters.settings import fit_settings
from edgepeft.adapters.tables import UNDER_TOKENS
from edgepeft.errors import InputError
from edgepeft.models.names import moved

_DELTAS = (".token_adapter.trainable_tokens_delta", ".trainable_tokens_delta")


def placed(
    model: Any, config: Any, tensors: Mapping[str, torch.Tensor], where: str
) -> Mapping[str, torch.Tensor]:
    """An adapter's tensors named as ``model`` names their modules; ``config``, PEFT's, is made to fit.

    Shapes and dtypes stay as they are. ``where`` begins an error. Raises InputError for patterns that are none or
    take too long, and for single tokens that the model does not have.
    """
    names = [name for name, _ in model.named_modules() if name]
    place = language_model_of(tensors, names)
    fit_settings(config, names, place, where)
    _check_tokens(config, model, where)
    if place is not None:
        tensors = {
            f"{PREFIX}{moved(name.removeprefix(PREFIX), *place)}": tensor
            for name, tensor in tensors.items()
        }
    return _take_tables(model, config, dict(tensors))


def _check_tokens(config: Any, model: Any, where: str) -> None:
    """Raise InputError for single tokens that are trained and that the model has no rows for."""
    for key in ("trainable_token_indices", "token_indices"):
        given = getattr(config, key, None) or []
        for indices in given.values() if isinstance(given, dict) else [given]:
            rows = model.get_input_embeddings().num_embeddings
            wrong = [one for one in indices if type(one) is not int or not 0 <= one < rows]
            if wrong:
                raise InputError(f"{where}: {key}: {wrong[0]} is no row of an embedding of {rows}")


def _take_tables(
    model: Any, config: Any, tensors: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Whole embeddings and heads that PEFT stored beside the rest become modules that are saved whole.

    PEFT stores both where the vocabulary was resized, and calls for neither in the configuration. What lies under
    trained tokens or factors is stored too; the base has it already, so it is left out.
    """
    modules = {id(module): name for name, module in model.named_modules()}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    stems = [f"{PREFIX}{modules[id(one)]}" for one in (embedding, head) if one is not None]
    under = [f"{stem}{end}" for stem in stems for end in UNDER_TOKENS if f"{stem}{end}" in tensors]
    for key in under:
        del tensors[key]
    if len(stems) == 2 and under:
        # Of a tied model PEFT stores the tokens twice.
        for part in _DELTAS:
            one, other = (tensors.get(f"{stem}{part}") for stem in stems)
            if one is not None and other is not None and torch.equal(one, other):
                del tensors[f"{stems[1]}{part}"]
    keys = [f"{stem}.weight" for stem in stems]
    stored = [key for key in keys if key in tensors]
    if not (keys[0] in stored or under) or not hasattr(config, "modules_to_save"):
        return tensors
    named = list(config.modules_to_save or ())
    for key in stored:
        name = key.removeprefix(PREFIX).removesuffix(".weight")
        if not is_named(name, set(named)):
            named.append(name)
    config.modules_to_save = named
    tied = len(keys) == 2 and model.config.tie_word_embeddings
    if tied and len(stored) == 2 and torch.equal(tensors[keys[0]], tensors[keys[1]]):
        config.ensure_weight_tying = True
    return tensors
