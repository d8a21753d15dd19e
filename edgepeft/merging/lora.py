"""Adapters as plain LoRA factors, whatever method made them: what combining and compressing work on.

A LoRA adapter is taken as it is. Any other method that merges is converted: its change of each weight, as PEFT's
own layer makes it, is decomposed. The form is that of https://arxiv.org/abs/2106.09685, ``alpha / r`` times B A.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from edgepeft.adapters.adapter import Adapter
from edgepeft.adapters.attach import attach
from edgepeft.adapters.folder import CONFIG, WEIGHTS
from edgepeft.adapters.keys import PREFIX
from edgepeft.adapters.scale import lora_scale, lora_scales
from edgepeft.checkpoints.source import TensorSource
from edgepeft.errors import InputError
from edgepeft.merging.merge import merge_units
from edgepeft.models.names import LANGUAGE_MODELS, moved

_A = ".lora_A.weight"


@dataclass(frozen=True)
class LoraFactors:
    """A plain LoRA: by module name A float32 [r, in] and B float32 [out, r], and the scale before the product."""

    factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    scaling: float

    @property
    def rank(self) -> int:
        """The largest rank of any module."""
        return max(int(a.shape[0]) for a, _ in self.factors.values())

    def delta(self, name: str) -> torch.Tensor:
        """The change of one module's weight, float32 [out, in]."""
        a, b = self.factors[name]
        return self.scaling * (b @ a)

    def padded(self, rank: int) -> LoraFactors:
        """The same adapter with A [rank, in] and B [out, rank] in every module; what is added is zero."""

        def pad(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            more = rank - a.shape[0]
            return (
                torch.cat([a, a.new_zeros(more, a.shape[1])]),
                torch.cat([b, b.new_zeros(b.shape[0], more)], dim=1),
            )

        return LoraFactors({name: pad(a, b) for name, (a, b) in self.factors.items()}, self.scaling)


def is_plain_lora(adapter: Adapter) -> bool:
    """Whether the adapter's tensors are LoRA factors and nothing else."""
    return adapter.config["peft_type"] == "LORA" and all(
        name.endswith((".lora_A.weight", ".lora_B.weight")) for name in adapter.tensors
    )


def lora_factors(adapter: Adapter) -> LoraFactors:
    """The factors of a plain LoRA, of any float dtype, as float32; modules' own scales are in B.

    Raises InputError where the two of a module don't go together.
    """
    where = adapter.folder / WEIGHTS
    config = adapter.config
    names = [
        key.removeprefix(PREFIX).removesuffix(_A) for key in adapter.tensors if key.endswith(_A)
    ]
    scales = lora_scales(config, names, str(adapter.folder / CONFIG))
    scaling = lora_scale(config)
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name in sorted(names):
        stem = f"{PREFIX}{name}"
        other = f"{stem}.lora_B.weight"
        if other not in adapter.tensors:
            raise InputError(f"{where}: lacks {other}")
        a, b = adapter.tensors[f"{stem}{_A}"].float(), adapter.tensors[other].float()
        rank, own = scales[name]
        if a.dim() != 2 or b.dim() != 2 or not a.shape[0] == b.shape[1] == rank:
            raise InputError(
                f"{where}: {stem} has factors of {tuple(a.shape)} and {tuple(b.shape)}, and {CONFIG} calls for "
                f"rank {rank}"
            )
        found[name] = (a, b * (own / scaling))
    extra = [key for key in adapter.tensors if key.endswith(".lora_B.weight")]
    if len(extra) != len(found) or not found:
        raise InputError(f"{where}: factors A and B are not of the same modules")
    return LoraFactors(found, scaling)


def converted(
    adapter: Adapter, skeleton: Any, base: TensorSource, rank: int
) -> tuple[LoraFactors, dict[str, float]]:
    """Any mergeable adapter as LoRA of ``rank``, and by module the share of the change (Frobenius) that is lost.

    ``base`` is what the adapter was trained on; ``skeleton`` is consumed. Raises InputError where the adapter
    changes more than linear weights.
    """
    units = merge_units(attach(skeleton, adapter), base.specs, adapter)
    factors: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    errors: dict[str, float] = {}
    for name, unit in units.items():
        if unit.replaced or len(base.specs[name].shape) != 2 or "embed" in name:
            raise InputError(
                f"{adapter.folder}: changes {name} as a whole, which low-rank factors can't express; train "
                "without modules_to_save, tokens and biases"
            )
        delta = unit.merge(base)[name] - base.load(name).to(torch.float32)
        module = name.removesuffix(".weight")
        a, b, errors[module] = decompose(delta, rank)
        factors[module] = (a, b)
    return LoraFactors(factors, 1.0), errors


def under_one_name(adapters: Sequence[LoraFactors]) -> list[LoraFactors]:
    """The factors with the names of the first adapter's modules, where another was trained inside a larger model.

    Side by side under two names, both would be kept and neither added to the other.
    """
    known = set(adapters[0].factors)
    return [adapters[0], *(_renamed(adapter, known) for adapter in adapters[1:])]


def _renamed(adapter: LoraFactors, known: set[str]) -> LoraFactors:
    ways = [*LANGUAGE_MODELS, *((alone, inside) for inside, alone in LANGUAGE_MODELS)]
    if known & set(adapter.factors):
        return adapter
    for way in ways:
        factors = {moved(name, *way): pair for name, pair in adapter.factors.items()}
        if known & set(factors):
            return LoraFactors(factors, adapter.scaling)
    return adapter


def decompose(delta: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """The best factors of a change float32 [out, in], and the share of its norm (Frobenius) that they miss.

    A float32 [r, in] and B float32 [out, r], where r is ``rank`` or, if that is less, the shorter side.
    """
    u, s, vh = torch.linalg.svd(delta, full_matrices=False)
    kept = min(rank, s.numel())
    total = float(torch.linalg.norm(s))
    missed = float(torch.linalg.norm(s[kept:])) / total if total else 0.0
    return vh[:kept].contiguous(), (u[:, :kept] * s[:kept]).contiguous(), missed


def write_lora(
    factors: LoraFactors,
    folder: Path,
    base_name: str | None,
    source: Mapping[str, Any] | None = None,
) -> None:
    """Write factors as a PEFT adapter folder that any PEFT loads; ``source`` is an adapter's own configuration.

    Raises InputError where the folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    rank = factors.rank
    uniform = factors.padded(rank)
    tensors: dict[str, torch.Tensor] = {}
    for name, (a, b) in uniform.factors.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a.contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b.contiguous()
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": (source or {}).get("task_type") or "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": rank,
        "lora_alpha": uniform.scaling * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(uniform.factors),
        "init_lora_weights": True,
        "inference_mode": True,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
