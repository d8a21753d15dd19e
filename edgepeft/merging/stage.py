"""The merge stage, and the one place that says which weights a later stage reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edgepeft.adapters.adapter import Adapter
from edgepeft.adapters.attach import open_adapter
from edgepeft.adapters.base_init import without_initial
from edgepeft.adapters.base_match import refuse_other_base
from edgepeft.adapters.base_parts import base_parts
from edgepeft.adapters.config import carried_as, is_full, read_adapter_config
from edgepeft.adapters.folder import WEIGHTS
from edgepeft.adapters.keys import PREFIX, canonical
from edgepeft.adapters.provenance import FILE, Provenance, read_provenance
from edgepeft.adapters.training_grid import dequantized
from edgepeft.adapters.unmerged import Unmerged, unmerged_of
from edgepeft.checkpoints.base import base_fingerprints, checkpoint_folder, open_base
from edgepeft.checkpoints.base_stage import base_facts
from edgepeft.checkpoints.safetensors_io import SafetensorsSource, write_checkpoint
from edgepeft.checkpoints.skeleton import (
    HEAD,
    build_skeleton,
    linear_weight_names,
    model_config,
)
from edgepeft.checkpoints.source import ComputedSource, TensorSource
from edgepeft.errors import InputError
from edgepeft.merging.merge import merged
from edgepeft.merging.settings import AdapterSettings, FrozenBase, MergeResult, on_stored_grid
from edgepeft.models.older_keys import in_todays_keys
from edgepeft.models.safetensors_header import read_header
from edgepeft.stages.job import Job, StageSettings
from edgepeft.utils.finite import all_finite
from edgepeft.utils.memory import return_large_blocks

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def run(job: Job[AdapterSettings]) -> MergeResult:
    """Stage function: write the merged checkpoint. Inputs: ``base``, ``adapter`` or ``train``."""
    return_large_blocks()
    source = merged_source(job)
    write_checkpoint(source, job.out, events=job.events)
    stored = json.loads((checkpoint_folder(job.inputs["base"]) / "config.json").read_text())
    config = in_todays_keys(stored)
    config["dtype"] = "float32"
    if HEAD in source.specs:
        config["tie_word_embeddings"] = False
    config.pop("torch_dtype", None)
    (job.out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in TOKENIZER_FILES:
        if (job.inputs["base"] / name).is_file():
            shutil.copyfile(job.inputs["base"] / name, job.out / name)
    unmerged = open_unmerged(job)
    if unmerged is not None:
        unmerged.write(job.out)
    return MergeResult(tensors=len(source.specs))


def open_weights(job: Job[AdapterSettings]) -> TensorSource:
    """The weights to quantize or export: the merged checkpoint if it was kept, else the merge done lazily.

    Where adapters are swapped, the base alone.
    """
    if job.settings.frozen is not None:
        return unadapted(job.inputs["base"], job.settings.frozen)
    if "merge" in job.inputs:
        return _kept(job)
    return merged_source(job)


def _kept(job: Job[AdapterSettings]) -> TensorSource:
    """The merged checkpoint that was kept. Raises InputError where its tensors are not those of the base."""
    folder = job.inputs["merge"]
    kept, base = SafetensorsSource.from_folder(folder), open_base(job.inputs["base"])
    shapes = [{name: spec.shape for name, spec in one.specs.items()} for one in (kept, base)]
    unlike = sorted(name for name, _ in set(shapes[0].items()) ^ set(shapes[1].items()))
    if unlike:
        raise InputError(
            f"{folder}: its {unlike[0]} is not the base's ({len(unlike)} such tensors); it was changed after "
            "the merge"
        )
    return kept


def open_unmerged(job: Job[AdapterSettings]) -> Unmerged | None:
    """What of a job's adapter stays beside the weights that ``open_weights`` gives; None for nothing."""
    if job.settings.frozen is not None:
        return None
    if "merge" in job.inputs:
        return Unmerged.read(job.inputs["merge"])
    folder = adapter_folder(job)
    if carried_as(read_adapter_config(folder)) == "weights":
        return None
    config = model_config(checkpoint_folder(job.inputs["base"]))
    return unmerged_of(open_adapter(folder), config)


def merged_source(job: Job[AdapterSettings]) -> TensorSource:
    """Base and adapter of a job, merged lazily as its ``merge`` settings say."""
    folder = adapter_folder(job)
    base = open_base(job.inputs["base"])
    skeleton = build_skeleton(checkpoint_folder(job.inputs["base"]), base.specs)
    if is_full(folder):
        check_base(job)
        return _tuned(base, folder)
    frozen = frozen_base(job)
    rounding = job.settings.merge.base
    adapter = open_adapter(folder)
    if rounding == "original":
        return _adapted(frozen, skeleton, adapter)
    provenance = job_provenance(job)
    names = provenance.quantized
    chosen = linear_weight_names(skeleton) if names is None else names
    adapted = _adapted(dequantized(frozen, provenance.grid, chosen), skeleton, adapter)
    if rounding == "requantized":
        return dequantized(adapted, provenance.grid, chosen)
    return adapted


def unadapted(folder: Path, frozen: FrozenBase) -> TensorSource:
    """A staged base as it lay under the adapters of a hot-swap bundle, without any."""
    base = open_base(folder)
    frozen = on_stored_grid(base_facts(folder), frozen)
    skeleton = build_skeleton(checkpoint_folder(folder), base.specs)
    names = frozen.quantized
    chosen = linear_weight_names(skeleton) if names is None else names
    return dequantized(base, frozen.grid, chosen)


def _adapted(base: TensorSource, skeleton: Any, adapter: Adapter) -> TensorSource:
    """The base with what merges of an adapter merged in; ``skeleton`` is consumed."""
    if unmerged_of(adapter, skeleton.config) is not None:
        return base
    return merged(base, skeleton, adapter)


def frozen_base(job: Job[AdapterSettings]) -> TensorSource:
    """The weights that stayed frozen in training, not yet on their grid: the base less any initial factors, with
    what the adapter brings of it in place.

    Raises InputError where the adapter was trained on another base.
    """
    check_base(job)
    folder, base = adapter_folder(job), open_base(job.inputs["base"])
    config = read_adapter_config(folder)
    frozen = without_initial(base, folder, config)
    own = base_parts(folder, config, frozen.specs)
    if not own:
        return frozen
    own |= _shared(frozen, own)
    file = SafetensorsSource.from_file(folder / WEIGHTS)
    for name, key in own.items():
        if file.specs[key].shape != frozen.specs[name].shape:
            raise InputError(
                f"{folder / WEIGHTS}: {key} is {file.specs[key].shape}, and the base's {name} is "
                f"{frozen.specs[name].shape}"
            )

    def load(name: str) -> torch.Tensor:
        return file.load(own[name]) if name in own else frozen.load(name)

    return ComputedSource(
        {n: file.specs[own[n]] if n in own else s for n, s in frozen.specs.items()}, load
    )


def _shared(base: TensorSource, own: Mapping[str, str]) -> dict[str, str]:
    """The head of a base that had one tensor for both follows an embedding that the adapter brings."""
    if HEAD not in base.specs or HEAD in own:
        return {}
    embedding = next((name for name in own if name.endswith(".weight")), None)
    if embedding is None or not torch.equal(base.load(HEAD), base.load(embedding)):
        return {}
    return {HEAD: own[embedding]}


def check_base(job: Job[AdapterSettings]) -> None:
    """Raise InputError where the job's adapter was trained on another base, unless the recipe allows it."""
    folder, base = adapter_folder(job), job.inputs["base"]
    config = read_adapter_config(folder)
    if not job.settings.merge.allow_base_mismatch:
        refuse_other_base(base_fingerprints(base), folder, config, job_provenance(job))
    if not is_full(folder):
        _refuse_made_parts(base, folder)


def _refuse_made_parts(base: Path, folder: Path) -> None:
    """Raise InputError where a part of the base was made at random for its task and the adapter brings no
    other."""
    made = set(base_facts(base).new_modules)
    if not made:
        return
    path = folder / WEIGHTS
    keys = set(canonical(read_header(path), path).names)
    for name in open_base(base).specs:
        part = next((one for one in name.split(".")[:2] if one in made), None)
        if part is not None and f"{PREFIX}{name}" not in keys:
            raise InputError(
                f"{folder}: the base has no {part}, so one was made at random, and the adapter does not bring "
                f"its own ({name}); name the base that it was trained on, or train with modules_to_save: [{part}]"
            )


def _tuned(base: TensorSource, folder: Path) -> TensorSource:
    """The weights of a full fine-tuning, in the base's order. Raises InputError where they don't fit the base."""
    tuned = SafetensorsSource.from_folder(folder)
    for name, spec in base.specs.items():
        if name not in tuned.specs or tuned.specs[name].shape != spec.shape:
            raise InputError(f"{folder}: its {name} is missing or of another shape than the base's")
    surplus = [name for name in tuned.specs if name not in base.specs]
    if surplus:
        raise InputError(
            f"{folder}: holds {surplus[0]}, which the base does not have ({len(surplus)} such tensors)"
        )

    def load(name: str) -> torch.Tensor:
        tensor = tuned.load(name)
        if not all_finite(tensor):
            raise InputError(f"{folder}: {name} holds NaN or infinite values")
        return tensor

    return ComputedSource({name: tuned.specs[name] for name in base.specs}, load)


def adapter_folder(job: Job[StageSettings]) -> Path:
    """The adapter of a job: one that was handed in, or the train stage's."""
    return job.inputs["adapter"] if "adapter" in job.inputs else job.inputs["train"] / "adapter"


def job_provenance(job: Job[AdapterSettings]) -> Provenance:
    """What the job's adapter was trained on."""
    folder = adapter_folder(job)
    declared = "auto" if (folder / FILE).is_file() else job.settings.merge.grid
    found = read_provenance(folder, declared)
    said = FrozenBase(grid=found.grid, quantized=found.quantized)
    frozen = on_stored_grid(base_facts(job.inputs["base"]), said)
    return replace(found, grid=frozen.grid, quantized=frozen.quantized)
