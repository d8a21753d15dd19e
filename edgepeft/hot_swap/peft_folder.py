"""A PEFT LoRA folder read and held against a bundle's slots, without torch or PEFT.

PEFT's own loader would take extra tensors, miss lacking ones and pass NaN on; here every tensor must be one that
the adapter's configuration calls for and the bundle has a place for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepeft.errors import InputError, one_line
from edgepeft.merging.adapter_config import (
    ALLOW,
    CONFIG,
    INITIAL,
    KEEPS_BASE,
    WEIGHTS,
    read_adapter_config,
)
from edgepeft.merging.provenance import FILE, Provenance, read_provenance
from edgepeft.runtime.slots import Slots

Array = npt.NDArray[np.float32]

_PREFIX = "base_model.model."
_DTYPES: dict[str, npt.DTypeLike] = {"F64": np.float64, "F32": np.float32, "F16": np.float16}
_BEYOND = (
    *("use_dora", "lora_bias", "fan_in_fan_out", "layer_replication", "use_qalora"),
    *("alora_invocation_tokens", "arrow_config", "modules_to_save", "trainable_token_indices"),
)
"""Settings of PEFT that make an adapter more than ``x A B`` beside a frozen weight."""


@dataclass(frozen=True)
class LoraFolder:
    """A checked adapter: A float32 [r, in] and B float32 [out, r] by module, the scale already in B."""

    folder: Path
    config: Mapping[str, Any]
    provenance: Provenance
    factors: Mapping[str, tuple[Array, Array]]

    @property
    def rank(self) -> int:
        """The largest rank of any module."""
        return max(int(a.shape[0]) for a, _ in self.factors.values())


def read_lora(
    folder: Path, slots: Slots, *, grid: str = "auto", allow_base_mismatch: bool = False
) -> LoraFolder:
    """Read an adapter folder for a bundle; ``grid`` is what a recipe says of adapters that don't.

    Raises InputError, one line that names the file: for another base, methods that can't stay beside it, tensors
    that are missing, left over, of another shape, too wide, or not finite.
    """
    config = read_adapter_config(folder)
    provenance = read_provenance(folder, "auto" if (folder / FILE).is_file() else grid)
    _refuse_method(folder, config)
    if not allow_base_mismatch:
        _refuse_base(folder, provenance, slots)
    tensors = _tensors(folder / WEIGHTS)
    factors = _factors(folder, config, tensors, slots)
    return LoraFolder(folder, config, provenance, factors)


def _refuse_method(folder: Path, config: Mapping[str, Any]) -> None:
    where = folder / CONFIG
    mend = "make a plain LoRA of it with edgepeft compress, or build a bundle it is merged into"
    if config["peft_type"] != "LORA":
        raise InputError(f"{where}: {config['peft_type']} can't stay beside the base; {mend}")
    for key in _BEYOND:
        if config.get(key):
            raise InputError(f"{where}: {key} can't stay beside the base; {mend}")
    start = config.get("init_lora_weights", True)
    changed = isinstance(start, str) and start not in KEEPS_BASE and not (folder / FILE).is_file()
    if changed or (folder / INITIAL).is_file():
        raise InputError(
            f"{where}: init_lora_weights: {start} changed the base under this adapter, and a bundle has one base "
            "for all; build a bundle it is merged into"
        )


def _refuse_base(folder: Path, provenance: Provenance, slots: Slots) -> None:
    recorded = (provenance.base or {}).get("fingerprint")
    if recorded is not None and recorded != slots.base.get("fingerprint"):
        name = (provenance.base or {}).get("name", "?")
        raise InputError(
            f"{folder}: was trained on {name}, whose weights are not those of "
            f"{slots.base.get('name', 'this base')}; {ALLOW}"
        )


def _tensors(path: Path) -> dict[str, Array]:
    """Every tensor of a safetensors file as float32. Raises InputError."""
    from safetensors import SafetensorError, deserialize

    try:
        entries: list[tuple[str, dict[str, Any]]] = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({one_line(error)})") from None
    found: dict[str, Array] = {}
    for name, entry in entries:
        dtype, data = entry["dtype"], entry["data"]
        if dtype == "BF16":
            # A bfloat16 is the upper half of a float32.
            halves = np.frombuffer(data, np.uint16).astype(np.uint32) << np.uint32(16)
            values = halves.view(np.float32)
        elif dtype in _DTYPES:
            values = np.frombuffer(data, _DTYPES[dtype]).astype(np.float32)
        else:
            raise InputError(f"{path}: {name} has dtype {dtype}, and a factor is floating")
        if not np.isfinite(values).all():
            raise InputError(f"{path}: {name} holds NaN or infinite values")
        found[name] = values.reshape(entry["shape"])
    return found


def _factors(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Array], slots: Slots
) -> dict[str, tuple[Array, Array]]:
    """A and B of every module, each held against the configuration and the bundle."""
    where, shapes = folder / WEIGHTS, slots.shapes
    halves: dict[str, dict[str, Array]] = {}
    for key, tensor in tensors.items():
        match = re.fullmatch(re.escape(_PREFIX) + r"(.+)\.lora_([AB])\.weight", key)
        if match is None:
            raise InputError(f"{where}: holds {key}, which is no LoRA factor")
        halves.setdefault(match[1], {})[match[2]] = tensor
    if not halves:
        raise InputError(f"{where}: holds no LoRA factors")
    called = _called_for(folder, config, [*shapes, *halves])
    for module in [*called, *halves]:
        if module not in shapes:
            kinds = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in shapes))
            raise InputError(
                f"{where}: changes {module}, which this bundle keeps no place for (it does for {kinds})"
            )
        if module not in called:
            raise InputError(f"{where}: holds {module}, which {CONFIG} does not call for")
        absent = {"A", "B"} - set(halves.get(module, ()))
        if absent:
            raise InputError(f"{where}: lacks {_PREFIX}{module}.lora_{min(absent)}.weight")
    return {
        module: _scaled(folder, config, module, parts["A"], parts["B"], shapes[module], slots.rank)
        for module, parts in halves.items()
    }


def _scaled(
    folder: Path,
    config: Mapping[str, Any],
    module: str,
    a: Array,
    b: Array,
    shape: tuple[int, int],
    largest: int,
) -> tuple[Array, Array]:
    """One module's factors with the scale in B. Raises InputError where they contradict what is said of them."""
    where = folder / WEIGHTS
    rank = int(_by_pattern(config.get("rank_pattern"), module, config.get("r", 8)))
    width, count = shape
    if a.shape != (rank, width) or b.shape != (count, rank):
        raise InputError(
            f"{where}: {module} has factors of {a.shape} and {b.shape}; {CONFIG} and this bundle call for "
            f"{(rank, width)} and {(count, rank)}"
        )
    if rank > largest:
        raise InputError(
            f"{where}: {module} has rank {rank}, and this bundle takes up to {largest}; compress it with "
            f"edgepeft compress --rank {largest}, or build the bundle with a larger adapter_rank"
        )
    alpha = float(_by_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha", 8)))
    scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    return a, b * np.float32(scale)


def _by_pattern(pattern: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """A module's own rank or alpha: PEFT takes the first pattern that matches the end of its name."""
    for key, value in (pattern or {}).items():
        if _matches(rf"(.*\.)?({key})", module):
            return value
    return default


def _called_for(folder: Path, config: Mapping[str, Any], modules: list[str]) -> list[str]:
    """Which of ``modules`` the configuration names, by PEFT's rules for target_modules and its limits."""
    targets = config.get("target_modules")
    layers = config.get("layers_to_transform")
    wanted = [layers] if isinstance(layers, int) else layers
    if not isinstance(targets, (str, list)) or not isinstance(wanted, (list, type(None))):
        raise InputError(f"{folder / CONFIG}: target_modules must be a list of names or a pattern")

    def named(by: Any, module: str) -> bool:
        if isinstance(by, str):
            return by == "all-linear" or _matches(by, module)
        return any(module == name or module.endswith(f".{name}") for name in by or [])

    def layer_of(module: str) -> int | None:
        match = re.search(r"\.(\d+)\.", module)
        return int(match[1]) if match else None

    return [
        module
        for module in dict.fromkeys(modules)
        if named(targets, module)
        and not named(config.get("exclude_modules"), module)
        and (wanted is None or layer_of(module) in wanted)
    ]


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error:
        return False
