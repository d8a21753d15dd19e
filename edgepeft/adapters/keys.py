"""Names of an adapter's tensors, brought into the form that PEFT writes.

Trainers that wrap a model (``torch.compile``, DistributedDataParallel, FSDP), or that save a state dict
themselves, leave the wrapper's or the adapter's name in every key, or leave PEFT's own prefix out. Where all
keys say the same, the rename is harmless and is made; where they disagree, it is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepeft.errors import InputError
from edgepeft.models.names import LANGUAGE_MODELS, PARALLEL, WRAPPERS, moved
from edgepeft.models.text_part import is_beside

PREFIX = "base_model.model."
"""What PEFT puts before the name of every module of the base."""
TUNERS = (
    *("lora_", "hada_", "lokr_", "ia3_", "ln_tuning_", "oft_", "boft_", "hra_", "vera_lambda_"),
    *("vera_", "pvera_", "randlora_", "vblora_", "fourierft_", "waveft_", "road_", "c3a_"),
    *("miss_", "deft_", "delora_", "glora_", "gralora_", "hira_", "tinylora_", "supertuning_"),
    *("trainable_tokens_", "bottleneck_", "modules_to_save"),
)
"""How the names of the parts that PEFT adds to a module begin."""
_OF_PARTS = ("glora_", "tinylora_v")
"""Those that are made of parts with names of their own, where others have the adapter's name."""


_SAVED, _ORIGINAL = "modules_to_save", "original_module"
_BENEATH = ("token_adapter", "base_layer")
"""What PEFT calls a module that it put its own around."""


@dataclass(frozen=True)
class Renamed:
    """``names`` maps PEFT's form of each key to the file's own; ``notes`` say what was changed."""

    names: Mapping[str, str]
    notes: tuple[str, ...] = ()


def canonical(keys: Collection[str], where: Path) -> Renamed:
    """PEFT's form of the keys of the file ``where``. Raises InputError where they can't all be right."""
    notes: list[str] = []
    split = {key: key.split(".") for key in keys}
    bare = {key: _unwrapped(parts) for key, parts in split.items()}
    taken = sorted({part for key in keys for part in split[key] if part in WRAPPERS})
    taken += [PARALLEL] if any(parts[0] == PARALLEL for parts in split.values()) else []
    if taken:
        notes.append(f"its keys name the wrapper {', '.join(taken)}, which is taken off")
    bare = _with_prefix(bare, where, notes)
    bare = _without_adapter_name(bare, where, notes)
    bare = _without_copies(bare, notes)
    bare = _without_images(bare, notes)
    found: dict[str, str] = {}
    for key, parts in bare.items():
        name = ".".join(parts)
        if name in found:
            raise InputError(
                f"{where}: {found[name]} and {key} both stand for {name}; save the adapter with save_pretrained"
            )
        found[name] = key
    return Renamed(found, tuple(notes))


def _unwrapped(parts: Sequence[str]) -> list[str]:
    kept = [part for part in parts if part not in WRAPPERS]
    while len(kept) > 1 and kept[0] == PARALLEL:
        del kept[0]
    while kept[:4] == ["base_model", "model", "base_model", "model"]:
        del kept[:2]
    if kept[:3] == ["base_model", "model", PARALLEL]:
        del kept[2]
    return kept


def _with_prefix(
    keys: Mapping[str, list[str]], where: Path, notes: list[str]
) -> dict[str, list[str]]:
    """Put PEFT's prefix before the keys, where none has it. A key of one part is a prompt's, of no module."""
    without = [key for key, parts in keys.items() if parts[0] != "base_model"]
    if not without or any(len(parts) == 1 for parts in keys.values()):
        return dict(keys)
    if len(without) != len(keys):
        raise InputError(
            f"{where}: holds {without[0]} without the prefix {PREFIX}, which other keys have; save the adapter "
            "with save_pretrained"
        )
    notes.append(f"its keys lack the prefix {PREFIX}, which is added")
    start = PREFIX.rstrip(".").split(".")
    return {key: [*start, *parts] for key, parts in keys.items()}


def _without_adapter_name(
    keys: Mapping[str, list[str]], where: Path, notes: list[str]
) -> dict[str, list[str]]:
    """Take the adapter's name out, as in ``lora_A.default.weight``, where every key has it."""
    named: dict[str, tuple[int, str]] = {}
    plain: list[str] = []
    for key, parts in keys.items():
        at = next((i for i, part in enumerate(parts) if part.startswith(TUNERS)), None)
        if at is None or parts[at].startswith(_OF_PARTS):
            continue
        rest = parts[at + 1 :]
        inner = rest[:-1] if rest and rest[-1] in ("weight", "bias") else rest
        if len(inner) == 1 or (inner and parts[at] == "modules_to_save"):
            named[key] = (at, inner[0])
        else:
            plain.append(key)
    names = sorted({name for _, name in named.values()})
    if not names:
        return dict(keys)
    if len(names) > 1:
        raise InputError(
            f"{where}: holds the adapters {' and '.join(names[:3])}; save one of them with save_pretrained"
        )
    if plain:
        raise InputError(
            f"{where}: {next(iter(named))} names the adapter {names[0]} and {plain[0]} does not; save it with "
            "save_pretrained"
        )
    notes.append(f"its keys hold the adapter's name, {names[0]}, which is taken out")
    result = dict(keys)
    for key, (at, _) in named.items():
        parts = keys[key]
        # A module that was saved whole has the name of the module itself in PEFT's files.
        start = parts[:at] if parts[at] == "modules_to_save" else parts[: at + 1]
        result[key] = [*start, *parts[at + 2 :]]
    return result


def _without_copies(keys: Mapping[str, list[str]], notes: list[str]) -> dict[str, list[str]]:
    """Leave out what PEFT stores of a wrapped module beside its value and does not load again."""
    found: dict[str, list[str]] = {}
    copies: dict[str, list[str]] = {}
    for key, parts in keys.items():
        if _SAVED in parts:
            copies[key] = [part for part in parts if part != _SAVED]
        elif _ORIGINAL not in parts:
            found[key] = parts
    values = list(found.values())
    found |= {key: parts for key, parts in copies.items() if parts not in values}
    if len(found) < len(keys):
        notes.append(
            f"{len(keys) - len(found)} copies of modules that are saved whole are left out"
        )
    return found


def _without_images(keys: Mapping[str, list[str]], notes: list[str]) -> dict[str, list[str]]:
    """Leave out what a larger model has for images, where the adapter changes its language model too."""
    found = {key: parts for key, parts in keys.items() if not is_beside(module_of(".".join(parts)))}
    if not found or len(found) == len(keys):
        return dict(keys)
    notes.append(f"{len(keys) - len(found)} tensors of what its base has for images are left out")
    return found


def language_model_of(keys: Collection[str], modules: Collection[str]) -> tuple[str, str] | None:
    """The entry of LANGUAGE_MODELS that makes every key one of a model's ``modules``; None where none is needed
    or none does. Keys are in PEFT's form.
    """
    adapted = {module_of(key) for key in keys} - {""}
    known = set(modules)
    if adapted <= known:
        return None
    for inside, alone in LANGUAGE_MODELS:
        if {moved(name, inside, alone) for name in adapted} <= known:
            return inside, alone
    return None


def module_of(key: str) -> str:
    """The base's module that a key in PEFT's form belongs to; empty for a part that belongs to none."""
    if not key.startswith(PREFIX):
        return ""
    parts = key.removeprefix(PREFIX).split(".")
    at = next((i for i, part in enumerate(parts) if part.startswith((*TUNERS, *_BENEATH))), None)
    return ".".join(parts[:at] if at is not None else parts[:-1])
