"""A checkpoint held against the model that its configuration describes: names, shapes, types and values.

Names are compared both ways. What is missing would be made up by transformers, and what is left over would be
passed over, both without an error; here the first is refused, and so is the second unless it is known to carry
nothing. Names that only a wrapper or an old version of transformers has changed are brought back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.source import TensorSpec
from edgepeft.compat.transformers_left_out import is_left_out
from edgepeft.errors import InputError
from edgepeft.models.names import LANGUAGE_MODELS, PARALLEL, moved, newer, unwrapped
from edgepeft.utils.finite import all_finite

HARMLESS: Mapping[str, str] = {
    r"(^|\.)rotary_emb\.inv_freq$": "tables that are computed",
    r"(^|\.)rotary_emb\.(cos|sin)_cached$": "tables that are computed",
    r"(^|\.)(position_ids|token_type_ids)$": "numbers that count positions",
    r"(^|\.)attn\.(masked_bias|bias)$": "masks that are computed",
    r"(^|\.)attention\.masked_bias$": "masks that are computed",
    r"(^|\.)mtp(_[a-z]+)?\.": "layers that predict further tokens, for speculation",
}
"""Tensors that checkpoints keep and no model needs, by a pattern of their names, and what they are."""
_HALF = 2.0**-8
"""The largest relative error of rounding to bfloat16."""


class Comparable(Protocol):
    """A source that can say whether two of its tensors are the same."""

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Spec of every tensor, in the source's order."""
        ...

    def same(self, first: str, second: str) -> bool:
        """Whether two tensors hold the same values. Raises KeyError."""
        ...


@dataclass(frozen=True)
class Fit:
    """A checkpoint that fits its model: ``names`` maps each of the model's tensors to the file's name for it.

    ``dropped`` are tensors of the file that the model does not need. ``notes`` say what was renamed and left out.
    """

    names: Mapping[str, str]
    dropped: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def renamed(self) -> bool:
        """Whether the file calls any tensor otherwise than the model does."""
        return any(name != own for name, own in self.names.items())

    @property
    def foreign(self) -> bool:
        """Whether any name is one that transformers would not read as the model's: a wrapper's, for one."""
        return any(name != newer(own) for name, own in self.names.items())

    def apply(self, source: SafetensorsSource) -> SafetensorsSource:
        """The checkpoint under the model's names, without what is dropped."""
        return source.named(self.names)


def fit_checkpoint(source: Comparable, skeleton: Any, where: Path) -> Fit:
    """Hold a checkpoint's names, shapes and types against a model on the meta device.

    Raises InputError naming the first tensor that is missing, left over, of another shape or no floating-point
    weight, and how many there are.
    """
    needed = {name: tuple(tensor.shape) for name, tensor in skeleton.named_parameters()}
    known = {name: tuple(tensor.shape) for name, tensor in skeleton.state_dict().items()}
    names, notes = _names(source, needed, known, skeleton, where)
    missing = [name for name in needed if name not in names]
    if missing:
        raise InputError(f"{where}: lacks {missing[0]} ({len(missing)} missing)")
    surplus = [own for name, own in names.items() if name not in known]
    strange = [own for own in surplus if _harmless(own, skeleton) is None]
    if strange:
        raise InputError(
            f"{where}: holds {strange[0]}, which {type(skeleton).__name__} does not use as config.json "
            f"describes it ({len(strange)} such tensors)"
        )
    for what in sorted({str(_harmless(own, skeleton)) for own in surplus}):
        count = sum(_harmless(own, skeleton) == what for own in surplus)
        notes.append(f"left out {what} ({count} tensors)")
    kept = {name: own for name, own in names.items() if name in known}
    for name, own in kept.items():
        spec = source.specs[own]
        if spec.shape != known[name]:
            raise InputError(
                f"{where}: {own} is {spec.shape}, and config.json calls for {known[name]}"
            )
        if not spec.dtype.is_floating_point:
            raise InputError(
                f"{where}: {own} is {str(spec.dtype).removeprefix('torch.')}, and a weight is floating; start "
                "from the full-precision checkpoint"
            )
    doubled = _doubled_head(source, skeleton, kept, needed)
    chosen = {name: own for name, own in kept.items() if name not in doubled}
    dropped = (*surplus, *(kept[name] for name in doubled))
    return Fit(chosen, tuple(dropped), tuple(notes))


def refuse_infinite(
    source: SafetensorsSource, names: Mapping[str, str], where: Path, step: Callable[[], None]
) -> None:
    """Raise InputError naming the first tensor that holds NaN or infinite values; ``step`` follows each."""
    for own in names.values():
        if not all_finite(source.mapped(own)):
            raise InputError(f"{where}: {own} holds NaN or infinite values")
        step()


def refuse_other_buffers(
    source: SafetensorsSource, names: Mapping[str, str], skeleton: Any, where: Path
) -> None:
    """Raise InputError where a checkpoint keeps a constant of the model's that is another than its class makes.

    Graphs and calibration have those of the class; what half precision makes of them is the same.
    """
    for name, buffer in skeleton.named_buffers():
        if name not in names or not buffer.is_floating_point():
            continue
        stored = source.load(names[name]).to(buffer.dtype)
        if not torch.allclose(stored, buffer, rtol=_HALF):
            found, wanted = (float(one.flatten()[0]) for one in (stored, buffer))
            raise InputError(
                f"{where}: {names[name]} is {found:.6g}, and {type(skeleton).__name__} is supported with "
                f"{wanted:.6g} alone"
            )


def _harmless(name: str, skeleton: Any) -> str | None:
    """What a left-over tensor is, where it is known to carry nothing; None otherwise."""
    found = next((what for pattern, what in HARMLESS.items() if re.search(pattern, name)), None)
    if found is None and is_left_out(skeleton, name):
        return "tensors that transformers leaves out for this architecture"
    return found


def _doubled_head(
    source: Comparable,
    skeleton: Any,
    names: Mapping[str, str],
    needed: Mapping[str, Any],
) -> list[str]:
    """Tensors that the model ties to another one and that are stored all the same, with the same values.

    A merge would change the one and leave the other.
    """
    doubled = []
    tensors = skeleton.state_dict(keep_vars=True)
    for name in names:
        if name in needed:
            continue
        twin = next((one for one in needed if tensors[one] is tensors[name]), None)
        if twin is not None and source.same(names[name], names[twin]):
            doubled.append(name)
    return doubled


def _names(
    source: Comparable,
    needed: Mapping[str, Any],
    known: Mapping[str, Any],
    skeleton: Any,
    where: Path,
) -> tuple[dict[str, str], list[str]]:
    """The file's names by those of the model, and what was renamed; as they are where no renaming makes them
    fit."""
    plain = {name: name for name in source.specs}
    for changes in _renamings():
        found: dict[str, str] = {}
        notes: list[str] = []
        for own in source.specs:
            name = own
            for change, note in changes:
                changed = change(name)
                if changed != name and note not in notes:
                    notes.append(note)
                name = changed
            if name in found:
                break
            found[name] = own
        else:
            fits = set(needed) <= set(found) and all(
                name in known or _harmless(own, skeleton) for name, own in found.items()
            )
            if fits:
                return found, notes
    prefixed = sorted(
        name for name in plain if name.startswith(f"{PARALLEL}.") or unwrapped(name) != name
    )
    if prefixed and len(prefixed) != len(plain):
        raise InputError(
            f"{where}: {prefixed[0]} has the prefix of a wrapper and others have none; save the model with "
            "save_pretrained"
        )
    return plain, []


Change = tuple[Callable[[str], str], str]


def _renamings() -> list[tuple[Change, ...]]:
    """Renamings in the order in which they are tried, the one that changes nothing first."""
    old: Change = (newer, "renamed what had an older name as transformers does")
    wrapped: Change = (unwrapped, "took the prefix of a wrapper (module, _orig_mod) off the names")
    placed: list[Change] = [
        (_mover(inside, alone), f"renamed {inside or 'names without prefix'} to {alone or 'none'}")
        for inside, alone in LANGUAGE_MODELS
    ]
    ways: list[tuple[Change, ...]] = [(), (old,), (wrapped,), (wrapped, old)]
    return ways + [(*way, place) for way in ((), (wrapped,)) for place in placed]


def unwrapped_names(source: SafetensorsSource) -> dict[str, str] | None:
    """A checkpoint's names by what they are without the prefixes of wrappers; None where none has one."""
    names = {unwrapped(name): name for name in source.specs}
    return names if len(names) == len(source.specs) and list(names) != list(source.specs) else None


def _mover(inside: str, alone: str) -> Callable[[str], str]:
    def move(name: str) -> str:
        # A head lies beside the body, whose prefix it does not have.
        return name if not inside and name.startswith("lm_head.") else moved(name, inside, alone)

    return move
