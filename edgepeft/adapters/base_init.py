"""Initial factors: what PiSSA, OLoRA and LoftQ take out of the base before training begins.

These start an adapter at a part of the weight itself, W = (W - B0 A0) + B0 A0, and freeze the rest. The adapter
is then right only on that rest, so the factors travel with it: in full precision they are folded into the adapter
(PEFT's conversion, of twice the rank), and on a quantized base they lie in a file beside it, because the grid has
rounded W - B0 A0 and not W.

PiSSA: https://arxiv.org/abs/2404.02948, OLoRA: https://arxiv.org/abs/2406.01775, LoftQ: https://arxiv.org/abs/2310.08659
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgepeft.adapters.config import INITIAL, KEEPS_BASE
from edgepeft.adapters.folder import CONFIG, WEIGHTS
from edgepeft.adapters.keys import PREFIX
from edgepeft.adapters.provenance import FILE, TrainingGrid
from edgepeft.adapters.scale import divisor
from edgepeft.adapters.training_grid import through_grid
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.source import ComputedSource, TensorSource, TensorSpec
from edgepeft.errors import InputError
from edgepeft.utils.finite import all_finite

LOFTQ_ROUNDS = 5
"""Alternations between rounding and decomposing; LoftQ's paper finds no gain beyond five."""
_PISSA = re.compile(r"pissa(_niter_([1-9]\d?))?")

Factors = tuple[torch.Tensor, torch.Tensor]
"""A0 float32 [r, in] and B0 float32 [out, r] as the adapter holds them; the scaling is not in them."""


def changes_base(init: object) -> bool:
    """Whether a value of ``init_lora_weights`` takes its start out of the base's weights."""
    return isinstance(init, str) and (init in ("olora", "loftq") or bool(_PISSA.fullmatch(init)))


def initial_factors(
    init: str, weight: torch.Tensor, rank: int, scaling: float, grid: TrainingGrid
) -> Factors:
    """The start that ``init`` gives an adapter of ``rank`` on a float32 ``weight`` [out, in].

    PiSSA and OLoRA are PEFT's formulas; LoftQ alternates with the very grid of the base. Raises InputError for a
    rank that the weight does not have.
    """
    if rank > min(weight.shape):
        raise InputError(
            f"method.rank: {rank} is more than {min(weight.shape)}, the rank of a weight of "
            f"{tuple(weight.shape)}; {init} decomposes the weight itself"
        )
    if init == "olora":
        q, r = torch.linalg.qr(weight)
        return r[:rank].contiguous(), q[:, :rank].contiguous()
    if init == "loftq":
        remainder = weight
        for _ in range(LOFTQ_ROUNDS):
            a, b = _split(weight - through_grid(remainder, grid), rank, scaling, None)
            remainder = weight - scaling * b @ a
        return a, b
    found = _PISSA.fullmatch(init)
    if found is None:
        raise InputError(f"init_lora_weights: {init}: not an initialization of the base's weights")
    return _split(weight, rank, scaling, int(found[2]) if found[2] else None)


def _split(weight: torch.Tensor, rank: int, scaling: float, rounds: int | None) -> Factors:
    """The best factors of ``rank``, each with the root of the singular values."""
    if rounds is None:
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
        u, s, vh = u[:, :rank], s[:rank], vh[:rank]
    else:
        u, s, v = torch.svd_lowrank(weight, rank, niter=rounds)
        vh = v.T
    root = torch.sqrt(s / scaling)
    return (root[:, None] * vh).contiguous(), (u * root).contiguous()


def without(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """What is left of a weight [out, in] of any dtype once B A is taken out: float32 [out, in].

    ``a`` is float32 [r, in], ``b`` float32 [out, r] with the scaling in it. Training and merging share this.
    """
    return weight.to(torch.float32) - b @ a


def without_initial(base: TensorSource, folder: Path, config: Mapping[str, Any]) -> TensorSource:
    """The base less the initial factors of the adapter in ``folder``; the base itself where there are none.

    Adapters made elsewhere keep no factors; PiSSA's and OLoRA's follow from the weights alone. Raises InputError
    for initializations that can't be repeated.
    """
    path = folder / INITIAL
    init = config.get("init_lora_weights", True)
    if path.is_file():
        stored = SafetensorsSource.from_file(path)
        names = _checked(stored, base, path)

        def factors(name: str) -> Factors:
            return stored.load(f"{name}.a"), stored.load(f"{name}.b")

    elif not isinstance(init, str) or init in KEEPS_BASE or (folder / FILE).is_file():
        return base
    elif init not in ("pissa", "olora") or config.get("rank_pattern"):
        raise InputError(
            f"{folder / CONFIG}: init_lora_weights: {init} changed the base before training and can't be "
            "repeated; save the adapter with path_initial_model_for_weight_conversion, which makes it plain LoRA"
        )
    else:
        names = _adapted(folder)
        rank = int(config["r"])
        scaling = float(config["lora_alpha"]) / divisor(config, rank)

        def factors(name: str) -> Factors:
            weight = base.load(name).to(torch.float32)
            a, b = initial_factors(str(init), weight, rank, scaling, TrainingGrid("none"))
            return a, scaling * b

    absent = sorted(names - set(base.specs))
    if absent:
        raise InputError(f"{folder}: takes its start from {absent[0]}, which the base lacks")
    specs = {
        name: TensorSpec(spec.shape, torch.float32) if name in names else spec
        for name, spec in base.specs.items()
    }

    def compute(name: str) -> torch.Tensor:
        weight = base.load(name)
        return without(weight, *factors(name)) if name in names else weight

    return ComputedSource(specs, compute)


def _checked(stored: SafetensorsSource, base: TensorSource, path: Path) -> set[str]:
    """The weights whose initial factors a file holds; raises InputError where it is not what training wrote."""
    names = {name.rpartition(".")[0] for name in stored.specs}
    for name in sorted(names):
        if name not in base.specs:
            raise InputError(f"{path}: holds the start of {name}, which the base lacks")
        pair = [stored.specs.get(f"{name}.{part}") for part in ("a", "b")]
        shapes = [spec.shape if spec is not None else () for spec in pair]
        (a, b), whole = shapes, base.specs[name].shape
        if not (len(a) == len(b) == 2 and a[0] == b[1] and (b[0], a[1]) == tuple(whole)):
            raise InputError(
                f"{path}: {name} has factors of {a} and {b}, and the weight is {whole}"
            )
        for part in ("a", "b"):
            if not all_finite(stored.load(f"{name}.{part}")):
                raise InputError(f"{path}: {name}.{part} holds NaN or infinite values")
    if len(stored.specs) != 2 * len(names):
        raise InputError(
            f"{path}: holds tensors that are no factors; training writes two of each weight"
        )
    return names


def _adapted(folder: Path) -> set[str]:
    """Names of the weights that a LoRA adapter's file changes."""
    found = SafetensorsSource.from_file(folder / WEIGHTS).specs
    ends = ".lora_A.weight"
    return {
        f"{name.removeprefix(PREFIX).removesuffix(ends)}.weight"
        for name in found
        if name.endswith(ends)
    }
