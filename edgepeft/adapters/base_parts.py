"""What an adapter's file holds of the base itself: tables that its factors or tokens lie on, and trained biases.

PEFT stores an embedding or a head beside what adapts it, as it was resized for the training, and with ``bias``
``all`` or ``lora_only`` the biases that trained. Both replace the base's before anything is added to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from edgepeft.adapters.folder import CONFIG, WEIGHTS
from edgepeft.adapters.keys import PREFIX, TUNERS, canonical, language_model_of
from edgepeft.adapters.tables import HEADS, under_adaptation
from edgepeft.errors import InputError
from edgepeft.models.names import moved
from edgepeft.models.safetensors_header import read_header

_BIAS, _WRAPPED_BIAS = ".bias", ".base_layer.bias"


def base_parts(folder: Path, config: Mapping[str, Any], names: Collection[str]) -> dict[str, str]:
    """The base's tensors that the adapter in ``folder`` brings, by the base's ``names``, and the file's own.

    Raises InputError where the base stores no such tensor.
    """
    path = folder / WEIGHTS
    own = canonical(read_header(path), path).names
    found = {f"{module}.weight": key for module, key in under_adaptation(own).items()}
    if trains_biases(config):
        found |= {name: key for key in own if (name := bias_of(key)) is not None}
    modules = {name.rpartition(".")[0] for name in names} | set(HEADS)
    place = language_model_of(own, modules) or ("", "")
    parts: dict[str, str] = {}
    for name, key in found.items():
        ours = moved(name, *place)
        if ours in names:
            parts[ours] = own[key]
        elif ours.removesuffix(".weight").rpartition(".")[2] not in HEADS:
            raise InputError(f"{path}: holds {own[key]}, and the base stores no {ours}")
    return parts


def trains_biases(config: Mapping[str, Any]) -> bool:
    """Whether biases of the base were trained with an adapter of this configuration."""
    return str(config.get("bias", "none")) != "none"


def brings_biases(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether the adapter in ``folder`` holds biases of the base; one of a base without any holds none."""
    path = folder / WEIGHTS
    if not trains_biases(config) or not path.is_file():
        return False
    return any(bias_of(key) is not None for key in canonical(read_header(path), path).names)


def refuse_biases(folder: Path, config: Mapping[str, Any], why: str) -> None:
    """Raise InputError, saying ``why``, where an adapter changes biases."""
    if brings_biases(folder, config):
        raise InputError(
            f"{folder / CONFIG}: bias: {config['bias']} changes the base's biases, {why}"
        )


def bias_of(key: str) -> str | None:
    """The base's name of a trained bias in PEFT's form; None for other keys, a factor's own bias among them."""
    if not key.startswith(PREFIX) or not key.endswith(_BIAS):
        return None
    if any(part.startswith(TUNERS) for part in key.split(".")):
        return None
    end = _WRAPPED_BIAS if key.endswith(_WRAPPED_BIAS) else _BIAS
    return f"{key.removeprefix(PREFIX).removesuffix(end)}{_BIAS}"
