"""Adapter folders in, an adapter folder out: combining and compressing."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepeft.adapters.adapter import Adapter
from edgepeft.adapters.attach import open_adapter
from edgepeft.adapters.base_init import without_initial
from edgepeft.adapters.base_match import refuse_other_base
from edgepeft.adapters.base_parts import refuse_biases
from edgepeft.adapters.config import INITIAL, carried_as, is_full, read_adapter_config
from edgepeft.adapters.provenance import FILE, read_provenance
from edgepeft.adapters.tables import tables_of
from edgepeft.adapters.training_grid import dequantized
from edgepeft.checkpoints.fingerprint import fingerprint
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import build_skeleton, linear_weight_names
from edgepeft.combination.combine import combine, relative_error
from edgepeft.combination.methods import Combination, check_combination
from edgepeft.errors import InputError
from edgepeft.merging.lora import (
    LoraFactors,
    converted,
    decompose,
    is_plain_lora,
    lora_factors,
    under_one_name,
    write_lora,
)
from edgepeft.models import inspect_model
from edgepeft.utils.temporary import sweep
from edgepeft.utils.whole_files import discard, new_folder, staging_folder, writing_failed

CONVERTED_RANK = 32
"""Rank at which an adapter of another method becomes LoRA, where nothing else is said."""


@dataclass(frozen=True)
class Parts:
    """Adapters opened to be combined, as LoRA; ``lost`` is what that cost each, None for those that were LoRA."""

    adapters: Sequence[Adapter]
    factors: Sequence[LoraFactors]
    lost: Sequence[float | None]

    @classmethod
    def open(
        cls,
        folders: Sequence[Path],
        *,
        rank: int | None = None,
        model: Path | None = None,
        allow_base_mismatch: bool = False,
    ) -> Parts:
        """Open adapter folders; those of other methods become LoRA of ``rank``, which takes the base's folder
        ``model``. Raises InputError.
        """
        opened = [_open(folder) for folder in folders]
        if not allow_base_mismatch:
            _refuse_unlike(opened)
        rank = rank or max([_rank(adapter) for adapter in opened], default=CONVERTED_RANK)
        found = [_as_lora(adapter, model, rank) for adapter in opened]
        factors = under_one_name([factors for factors, _ in found])
        return cls(opened, factors, [lost for _, lost in found])

    def write(self, how: Combination, result: LoraFactors, out: Path) -> dict[str, Any]:
        """Write what they were combined to into ``out``, whole or not at all; what was done."""
        with new_folder(out) as staged:
            write_lora(result, staged, self.adapters[0].config.get("base_model_name_or_path"))
            _keep_provenance(self.adapters[0].folder, staged)
        return {
            "adapter": str(out.resolve()),
            "method": how.method,
            "weights": list(how.weights),
            "density": how.density,
            "rank": result.rank,
            "of": [
                {"path": str(adapter.folder), "rank": factors.rank, "lost_in_conversion": lost}
                for adapter, factors, lost in zip(
                    self.adapters, self.factors, self.lost, strict=True
                )
            ],
        }


def combine_folders(
    folders: Sequence[Path],
    how: Combination,
    out: Path,
    *,
    model: Path | None = None,
    allow_base_mismatch: bool = False,
) -> dict[str, Any]:
    """Combine adapter folders into ``out``; what was done, with the rank and what conversion lost.

    ``model`` is the base's folder, which only adapters of other methods than LoRA need. Raises InputError.
    """
    check_combination(how, len(folders))
    refuse_filled(out)
    parts = Parts.open(folders, rank=how.rank, model=model, allow_base_mismatch=allow_base_mismatch)
    return parts.write(how, combine(parts.factors, how), out)


def compress_folder(
    folder: Path, rank: int, out: Path, *, model: Path | None = None
) -> dict[str, Any]:
    """Write the adapter at ``rank`` into ``out``; the share of its change that is lost, over all and by module.

    Raises InputError, also where the rank is not lower than the adapter's.
    """
    refuse_filled(out)
    adapter = _open(folder)
    if is_plain_lora(adapter):
        whole = lora_factors(adapter)
        if rank >= whole.rank:
            raise InputError(
                f"--rank: {rank} is not below {whole.rank}, the rank of {folder}; there is nothing to compress"
            )
        parts = {name: decompose(whole.delta(name), rank) for name in whole.factors}
        result = LoraFactors({name: (a, b) for name, (a, b, _) in parts.items()}, 1.0)
        errors = {name: missed for name, (_, _, missed) in parts.items()}
        error, was = relative_error(whole, result), whole.rank
    else:
        result, errors, error = _converted(adapter, model, rank)
        was = None
    with new_folder(out) as staged:
        write_lora(result, staged, adapter.config.get("base_model_name_or_path"))
        _keep_provenance(folder, staged)
    worst = max(errors, key=lambda name: errors[name])
    return {
        "adapter": str(out.resolve()),
        "rank": result.rank,
        "rank_before": was,
        "error": error,
        "worst_module": worst,
        "worst_error": errors[worst],
        "errors": errors,
        "bytes": _bytes(out),
        "bytes_before": _bytes(folder),
    }


def _open(folder: Path) -> Adapter:
    if is_full(folder):
        raise InputError(
            f"{folder}: contains a whole model; make an adapter of it with edgepeft extract"
        )
    if (folder / INITIAL).is_file():
        raise InputError(
            f"{folder}: begins inside a quantized base (PiSSA, OLoRA or LoftQ), so it is right on no other; it "
            "can't be combined or compressed"
        )
    config = read_adapter_config(folder)
    if carried_as(config) != "weights":
        raise InputError(
            f"{folder}: is {config['peft_type']}, which changes no weights; only adapters that do can be "
            "combined or compressed"
        )
    if tables_of(folder, config).any:
        raise InputError(
            f"{folder}: changes embedding or head, for which a base may have one tensor; it can't be combined "
            "or compressed"
        )
    refuse_biases(folder, config, "which factors can't express; it can't be combined or compressed")
    return open_adapter(folder)


def _as_lora(adapter: Adapter, model: Path | None, rank: int) -> tuple[LoraFactors, float | None]:
    """An adapter's factors, and what converting it to ``rank`` lost; None for one that is LoRA already."""
    if is_plain_lora(adapter):
        return lora_factors(adapter), None
    found, _, error = _converted(adapter, model, rank)
    return found, error


def _converted(
    adapter: Adapter, model: Path | None, rank: int
) -> tuple[LoraFactors, dict[str, float], float]:
    """A non-LoRA adapter as LoRA, the share lost by module, and their root mean square."""
    if model is None:
        kind = "DoRA" if adapter.config.get("use_dora") else adapter.config["peft_type"]
        raise InputError(
            f"{adapter.folder}: is {kind}; converting it to LoRA needs the base model; give --model"
        )
    refuse_rounded(model, "converting to LoRA")
    info = inspect_model(model)
    if info.inside:
        raise InputError(
            f"{model}: is {info.inside}; converting to LoRA needs its language model as a folder of its own"
        )
    base = SafetensorsSource.from_folder(model)
    provenance = read_provenance(adapter.folder)
    refuse_other_base([fingerprint(base)], adapter.folder, adapter.config, provenance)
    skeleton = build_skeleton(model, base.specs)
    chosen = provenance.quantized
    if chosen is None:
        chosen = tuple(linear_weight_names(skeleton))
    start = without_initial(base, adapter.folder, adapter.config)
    frozen = dequantized(start, provenance.grid, chosen)
    factors, errors = converted(adapter, skeleton, frozen, rank)
    mean = math.sqrt(sum(error**2 for error in errors.values()) / len(errors))
    return factors, errors, mean


def _refuse_unlike(adapters: Sequence[Adapter]) -> None:
    """Adapters of different bases, or trained on different grids, add up to nothing that was ever trained."""
    first = read_provenance(adapters[0].folder)
    for adapter in adapters[1:]:
        other = read_provenance(adapter.folder)
        prints = [(p.base or {}).get("fingerprint") for p in (first, other)]
        names = [a.config.get("base_model_name_or_path") for a in (adapters[0], adapter)]
        if None not in prints and prints[0] != prints[1]:
            raise InputError(
                f"{adapter.folder}: was trained on another base ({names[1]}) than {adapters[0].folder} "
                f"({names[0]}); combine adapters of one base, or pass --allow-base-mismatch"
            )
        if first.grid != other.grid:
            raise InputError(
                f"{adapter.folder}: was trained on {other.trained_on}, {adapters[0].folder} on "
                f"{first.trained_on}; "
                "one base can't be both, so pass --allow-base-mismatch to take the first one's"
            )


def _rank(adapter: Adapter) -> int:
    return int(adapter.config.get("r") or CONVERTED_RANK)


def _keep_provenance(source: Path, out: Path) -> None:
    """The result is to be merged into the base that its parts were trained on."""
    if (source / FILE).is_file():
        replace(read_provenance(source), method="lora").write(out)
    elif (source / "README.md").is_file():
        shutil.copyfile(source / "README.md", out / "README.md")


def refuse_rounded(model: Path, what: str) -> None:
    """Raise InputError where the weights of a base came rounded and ``what`` needs them as they were."""
    if inspect_model(model).rounded is not None:
        raise InputError(
            f"{model}: its weights are rounded already; {what} needs them as they were"
        )


def refuse_filled(out: Path) -> None:
    """Raise InputError where a folder to be written holds something, or can't be written."""
    try:
        if out.is_dir():
            sweep(out)
        if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out}: exists already; choose another --out")
    except OSError as error:
        raise writing_failed(out, error) from None
    # Whether it can be written is known before the work, which may take long.
    discard(staging_folder(out))


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def facts_table(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Facts of one of these operations as rows for people, long lists left out."""
    return [
        (key, f"{value:.4g}" if isinstance(value, float) else str(value))
        for key, value in facts.items()
        if not isinstance(value, (dict, list)) and value is not None
    ]
