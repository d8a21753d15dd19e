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

from edgepeft.adapters.base_parts import refuse_biases
from edgepeft.adapters.config import ALLOW, INITIAL, KEEPS_BASE, read_adapter_config
from edgepeft.adapters.config_fields import MORE_THAN_FACTORS
from edgepeft.adapters.folder import CONFIG, WEIGHTS
from edgepeft.adapters.keys import PREFIX, canonical, language_model_of
from edgepeft.adapters.patterns import Question, first_matches, is_named
from edgepeft.adapters.provenance import FILE, Provenance, read_provenance
from edgepeft.adapters.scale import check_scaled, lora_scales
from edgepeft.adapters.tables import tables_of
from edgepeft.errors import InputError, one_line
from edgepeft.models.names import moved
from edgepeft.models.safetensors_header import read_header
from edgepeft.runtime.slots import Slots

Array = npt.NDArray[np.float32]
_FACTOR = re.compile(re.escape(PREFIX) + r"(.+)\.lora_([AB])\.weight")
_LAYER = re.compile(r"\.(\d+)\.")

_DTYPES: dict[str, npt.DTypeLike] = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


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
    if tables_of(folder, config).any:
        raise InputError(
            f"{folder / WEIGHTS}: changes the embedding or the head, and a bundle has one for all its adapters; "
            "build a bundle that it is merged into"
        )
    refuse_biases(
        folder,
        config,
        "which a bundle has for all its adapters; build a bundle that it is merged into",
    )
    if not allow_base_mismatch:
        _refuse_base(folder, provenance, slots)
    tensors = _tensors(folder / WEIGHTS)
    factors = _factors(folder, config, tensors, slots)
    return LoraFolder(folder, config, provenance, factors)


def _refuse_method(folder: Path, config: Mapping[str, Any]) -> None:
    where = folder / CONFIG
    mend = "make a plain LoRA of it with edgepeft compress, or build a bundle it is merged into"
    if config["peft_type"] != "LORA":
        raise InputError(f"{where}: hot-swap bundles can't load {config['peft_type']}; {mend}")
    for key in MORE_THAN_FACTORS:
        if config.get(key):
            raise InputError(f"{where}: hot-swap bundles can't load {key}; {mend}")
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

    names = {own: name for name, own in canonical(read_header(path), path).names.items()}
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
        if not values.size:
            raise InputError(f"{path}: {name} is {tuple(entry['shape'])}, which holds nothing")
        if not np.isfinite(values).all():
            raise InputError(f"{path}: {name} holds NaN or infinite values")
        found[names[name]] = values.reshape(entry["shape"])
    return found


def _factors(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Array], slots: Slots
) -> dict[str, tuple[Array, Array]]:
    """A and B of every module, each held against the configuration and the bundle."""
    where, shapes = folder / WEIGHTS, slots.shapes
    place = language_model_of(tensors, shapes) or ("", "")
    halves: dict[str, dict[str, Array]] = {}
    for key, tensor in tensors.items():
        match = _FACTOR.fullmatch(key)
        if match is None:
            raise InputError(f"{where}: holds {key}, which is no LoRA factor")
        halves.setdefault(moved(match[1], *place), {})[match[2]] = tensor
    if not halves:
        raise InputError(f"{where}: holds no LoRA factors")
    # The configuration speaks of modules under the names of the model that was trained.
    theirs = {name: moved(name, place[1], place[0]) for name in dict.fromkeys([*shapes, *halves])}
    called = _called_for(folder, config, theirs)
    for module in [*called, *halves]:
        if module not in shapes:
            kinds = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in shapes))
            raise InputError(
                f"{where}: changes {module}, which this bundle has no slot for (it has slots for {kinds})"
            )
        if module not in called:
            raise InputError(f"{where}: holds {module}, which {CONFIG} does not call for")
        absent = {"A", "B"} - set(halves.get(module, ()))
        if absent:
            raise InputError(f"{where}: lacks {PREFIX}{module}.lora_{min(absent)}.weight")
    names = [theirs[module] for module in halves]
    scales = lora_scales(config, names, str(folder / CONFIG))
    found: dict[str, tuple[Array, Array]] = {}
    for module, parts in halves.items():
        rank, scale = scales[theirs[module]]
        _check_shapes(where, module, parts, rank, shapes[module], slots.rank)
        largest = (float(np.abs(parts["A"]).max()), float(np.abs(parts["B"]).max()))
        check_scaled(where, module, largest, rank, scale)
        found[module] = (parts["A"], parts["B"] * np.float32(scale))
    return found


def _check_shapes(
    where: Path,
    module: str,
    parts: Mapping[str, Array],
    rank: int,
    shape: tuple[int, int],
    largest: int,
) -> None:
    """Raise InputError where one module's factors contradict what is said of them."""
    a, b = parts["A"], parts["B"]
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


def _called_for(folder: Path, config: Mapping[str, Any], names: Mapping[str, str]) -> set[str]:
    """Which modules the configuration names, by PEFT's rules for target_modules and its limits.

    ``names`` maps each module to what the configuration calls it.
    """
    where = folder / CONFIG
    targets, excluded = config.get("target_modules"), config.get("exclude_modules")
    layers = config.get("layers_to_transform")
    wanted = [layers] if isinstance(layers, int) else layers
    if not isinstance(targets, (str, list)) or not isinstance(wanted, (list, type(None))):
        raise InputError(f"{where}: target_modules must be a list of names or a pattern")
    if config.get("layers_pattern") not in (None, [], "", "layers", ["layers"]):
        raise InputError(f"{where}: layers_pattern: only layers is read here; name the modules")
    chosen, left_out = (_named(by, list(names.values()), str(where)) for by in (targets, excluded))
    exact = set(targets) if isinstance(targets, list) else set()

    def in_layers(name: str) -> bool:
        match = _LAYER.search(name)
        # PEFT takes a module that is named in full whatever its layer.
        return not wanted or name in exact or (match is not None and int(match[1]) in wanted)

    return {
        module
        for module, name in names.items()
        if name in chosen and name not in left_out and in_layers(name)
    }


def _named(by: Any, names: list[str], where: str) -> set[str]:
    """Those of ``names`` that a pattern or a list of names means."""
    if not by:
        return set()
    if isinstance(by, list):
        entries = frozenset(by)
        return {name for name in names if is_named(name, entries)}
    if by.lower() == "all-linear":
        return set(names)
    (found,) = first_matches([Question([by], full=True)], names, where)
    return {name for name, index in zip(names, found, strict=True) if index == 0}
