"""PEFT adapter folders: opened, checked tensor by tensor, attached to a model.

PEFT loads adapters leniently: extra tensors overwrite base weights, missing ones keep their initial value, NaN
passes. Here every tensor must be one that the adapter's own configuration calls for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.merging.adapter_config import CONFIG, WEIGHTS, read_adapter_config


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter on disk: its folder, its configuration and its tensors (all of them; adapters are small)."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]


def open_adapter(folder: Path) -> Adapter:
    """Read an adapter folder and refuse what cannot be right in itself. Raises InputError."""
    config = read_adapter_config(folder)
    weights = folder / WEIGHTS
    source = SafetensorsSource.from_file(weights)
    tensors = {name: source.load(name) for name in source.specs}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{weights}: {name} holds NaN or infinite values")
    return Adapter(folder, config, tensors)


def attach(model: Any, adapter: Adapter) -> Any:
    """Wrap ``model`` (its parameters may be on meta) with the adapter, every tensor accounted for.

    Returns the PeftModel in eval mode with float32 adapter weights on the CPU. Raises InputError when tensors
    are missing, left over or of another shape than the configuration and this model call for.
    """
    from peft import PeftConfig, PeftModel
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    config = PeftConfig.from_pretrained(str(adapter.folder))
    config.inference_mode = True
    try:
        wrapped = PeftModel(model, config, low_cpu_mem_usage=True)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{adapter.folder / CONFIG}: does not fit this model: {error}") from None
    if hasattr(wrapped.get_base_model().get_output_embeddings(), "get_base_layer"):
        # The reference keeps hidden states and reads them with the base's own head.
        raise InputError(
            f"{adapter.folder / CONFIG}: adapts the language model's head, which is not supported yet; train "
            "without it among target_modules"
        )
    # Left to itself PEFT would take whole embeddings out of an adapter's file.
    expected = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    where = adapter.folder / WEIGHTS
    missing = sorted(set(expected) - set(adapter.tensors))
    extra = sorted(set(adapter.tensors) - set(expected))
    if missing:
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
    tensors = {name: tensor.to(torch.float32) for name, tensor in adapter.tensors.items()}
    with _adapter_stays_put():
        set_peft_model_state_dict(wrapped, tensors, low_cpu_mem_usage=True)
    loaded = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    vacant = [name for name, value in loaded.items() if value.is_meta]
    if vacant:
        raise EdgepeftError(
            f"{where}: {vacant[0]} was not loaded by PEFT; this version is not supported"
        )
    return wrapped.eval()


@contextlib.contextmanager
def _adapter_stays_put() -> Iterator[None]:
    """Keep PEFT from moving a loaded adapter to its base layer's device, which for a skeleton is meta."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    original = BaseTunerLayer._move_adapter_to_device_of_base_layer
    BaseTunerLayer._move_adapter_to_device_of_base_layer = lambda *args, **kwargs: None
    try:
        yield
    finally:
        BaseTunerLayer._move_adapter_to_device_of_base_layer = original
