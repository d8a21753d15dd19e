"""PEFT adapter folders: opened, checked tensor by tensor, attached to a model.

PEFT loads adapters leniently: extra tensors overwrite base weights, missing ones keep their initial value, NaN
passes. Here every tensor must be one that the adapter's own configuration calls for.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edgepeft.adapters.adapter import Adapter
from edgepeft.adapters.base_parts import trains_biases
from edgepeft.adapters.config import read_adapter_config
from edgepeft.adapters.folder import CONFIG, WEIGHTS
from edgepeft.adapters.keys import canonical, module_of
from edgepeft.adapters.placement import placed
from edgepeft.adapters.scale import check_scaled, lora_scales
from edgepeft.adapters.tied import refuse_half, tie
from edgepeft.adapters.unmerged import unmerged_of
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.compat.peft_devices import adapter_stays_put
from edgepeft.errors import EdgepeftError, InputError, one_line
from edgepeft.utils.finite import all_finite

_PAIRS = {".lora_A.weight": ".lora_B.weight", ".lora_embedding_A": ".lora_embedding_B"}
_RANK_STORED = (
    *(
        "DEFT",
        "DELORA",
        "GLORA",
        "GRALORA",
        "HIRA",
        "HRA",
        "LOHA",
        "LORA",
        "MISS",
        "PVERA",
        "RANDLORA",
    ),
    *("SUPERTUNING", "TINYLORA", "VERA"),
)
"""Methods whose ``r`` is a dimension of some tensor in the file."""


def open_adapter(folder: Path) -> Adapter:
    """Read an adapter folder and refuse what cannot be right in itself. Raises InputError."""
    config = read_adapter_config(folder)
    weights = folder / WEIGHTS
    source = SafetensorsSource.from_file(weights)
    names = canonical(source.specs, weights).names
    tensors = {name: source.mapped(own) for name, own in names.items()}
    for name, tensor in tensors.items():
        if not tensor.numel():
            raise InputError(f"{weights}: {name} is {tuple(tensor.shape)}, which holds nothing")
        if not tensor.is_floating_point():
            if not name.endswith("indices"):
                raise InputError(f"{weights}: {name} is {tensor.dtype}, and a factor is floating")
        elif not all_finite(tensor):
            raise InputError(f"{weights}: {name} holds NaN or infinite values")
    _refuse_other_rank(folder, config, tensors)
    _refuse_infinite_products(folder, config, tensors)
    return Adapter(folder, config, tensors)


def _refuse_other_rank(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> None:
    """A rank that no tensor has would have PEFT make room for it before anything is compared."""
    if config["peft_type"] not in _RANK_STORED or config.get("rank_pattern"):
        return
    stored = {size for tensor in tensors.values() for size in tensor.shape}
    # Factors of a whole stack of experts have that many times the rank.
    if config.get("r") is not None and stored and all(size % config["r"] for size in stored):
        raise InputError(
            f"{folder / CONFIG}: r: {config['r']} contradicts the tensors, none of which has that rank"
        )


def _refuse_infinite_products(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Raise InputError where finite factors of a LoRA are infinite once multiplied out and scaled."""
    pairs = {
        module_of(a): (a, b)
        for first, second in _PAIRS.items()
        for a in tensors
        if a.endswith(first) and (b := f"{a.removesuffix(first)}{second}") in tensors
    }
    if config["peft_type"] != "LORA" or not pairs:
        return
    where = str(folder / CONFIG)
    scales = lora_scales(config, list(pairs), where)
    for module, (a, b) in pairs.items():
        rank, scale = scales[module]
        largest = (float(tensors[a].abs().max()), float(tensors[b].abs().max()))
        check_scaled(folder / WEIGHTS, module, largest, rank, scale)


def attach(model: Any, adapter: Adapter) -> Any:
    """Wrap ``model`` (its parameters may be on meta) with the adapter, every tensor accounted for.

    Returns the PeftModel in eval mode with float32 adapter weights on the CPU. Raises InputError when tensors
    are missing, left over or of another shape than the configuration and this model call for.
    """
    from peft import PeftConfig, PeftModel
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    from edgepeft.adapters.bottleneck import register

    register()
    where = adapter.folder / WEIGHTS
    try:
        config = PeftConfig.from_pretrained(str(adapter.folder))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{adapter.folder / CONFIG}: PEFT can't read it: {one_line(error)}"
        ) from None
    config.inference_mode = True
    if config.is_prompt_learning:
        return _attach_prompt(model, config, adapter)
    tensors = placed(model, config, adapter.tensors, str(adapter.folder / CONFIG))
    adapter = replace(adapter, tensors=tensors)
    if hasattr(config, "init_lora_weights"):
        # The start that an adapter was given is over; PEFT would work it out of the base again and change that.
        config.init_lora_weights = True
    try:
        # Parts that are not stored (projections drawn from a seed) must be made; LoRA has none, and DoRA's start
        # is worked out of weights that a skeleton does not have.
        stored = config.peft_type == "LORA"
        with adapter_stays_put():
            wrapped = PeftModel(model, config, low_cpu_mem_usage=stored)
    except (ValueError, KeyError, TypeError, RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"{adapter.folder / CONFIG}: does not fit this model: {one_line(error)}"
        ) from None
    refuse_half(wrapped, f"{adapter.folder / CONFIG}")
    expected = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    missing = sorted(set(expected) - set(adapter.tensors))
    extra = sorted(set(adapter.tensors) - set(expected))
    if missing:
        if missing[0].endswith(".bias") and trains_biases(adapter.config):
            raise InputError(
                f"{where}: lacks {missing[0]} ({len(missing)} missing), which bias: {adapter.config['bias']} "
                f"trained; save the adapter anew, or set bias: none in {CONFIG} to keep the base's"
            )
        raise InputError(
            f"{where}: lacks {missing[0]} ({len(missing)} missing); another base model?"
        )
    if extra:
        raise InputError(
            f"{where}: holds {extra[0]}, which {CONFIG} does not call for ({len(extra)} such tensors)"
        )
    for name, tensor in adapter.tensors.items():
        if tensor.shape != expected[name].shape:
            raise InputError(
                f"{where}: {name} is {tuple(tensor.shape)}, but this model and {CONFIG} call for "
                f"{tuple(expected[name].shape)}"
            )
    tensors = {
        name: tensor.to(torch.float32) if tensor.is_floating_point() else tensor
        for name, tensor in adapter.tensors.items()
    }
    with adapter_stays_put(), warnings.catch_warnings():
        # What PEFT warns of here, projections that follow from a seed, is part of the method.
        warnings.simplefilter("ignore")
        set_peft_model_state_dict(wrapped, tensors, low_cpu_mem_usage=True)
    tie(wrapped, f"{adapter.folder / CONFIG}")
    loaded = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    vacant = [name for name, value in loaded.items() if value.is_meta]
    if vacant:
        raise EdgepeftError(
            f"{where}: {vacant[0]} was not loaded by PEFT; this version is not supported"
        )
    return wrapped.eval()


def _attach_prompt(model: Any, config: Any, adapter: Adapter) -> Any:
    """Virtual tokens before whatever the model reads, where PEFT puts them; nothing of the model is wrapped."""
    from peft import PeftModelForCausalLM
    from peft.utils import set_peft_model_state_dict

    unmerged_of(adapter, model.config)
    config.task_type = "CAUSAL_LM"
    wrapped = PeftModelForCausalLM(model, config)
    tensors = {name: tensor.to(torch.float32) for name, tensor in adapter.tensors.items()}
    set_peft_model_state_dict(wrapped, tensors)
    return wrapped.eval()
