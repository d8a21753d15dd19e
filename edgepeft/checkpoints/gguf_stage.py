"""A GGUF file dequantized once, with transformers' own mapping, after its tensors were held against the model.

transformers passes over tensors that its mapping has no place for and makes up those that a file lacks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepeft.compat.transformers_gguf_mark import forget_file
from edgepeft.compat.transformers_gguf_names import tensor_places
from edgepeft.compat.transformers_gguf_reading import each_file_read_once
from edgepeft.errors import InputError, one_line
from edgepeft.models.gguf_header import GgufHeader, read_gguf_header
from edgepeft.utils.finite import all_finite

_FAILURES = (
    ValueError,
    KeyError,
    OSError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    IndexError,
)


def stage_gguf(model: Path, out: Path) -> None:
    """Write a GGUF file's model into ``out``, dequantized to float32. Raises InputError."""
    import torch
    from transformers import AutoModelForCausalLM

    header = read_gguf_header(model)
    try:
        with each_file_read_once():
            _check_tensors(model, header)
            loaded, info = AutoModelForCausalLM.from_pretrained(
                model.parent, gguf_file=model.name, dtype=torch.float32, output_loading_info=True
            )
    except _FAILURES as error:
        raise InputError(f"{model}: transformers can't read this GGUF: {one_line(error)}") from None
    lost = sorted({*info["missing_keys"], *(str(key) for key, *_ in info["mismatched_keys"])})
    if lost:
        raise InputError(f"{model}: lacks {lost[0]} ({len(lost)} missing)")
    for name, parameter in loaded.named_parameters():
        if not all_finite(parameter.data):
            raise InputError(f"{model}: {name} holds NaN or infinite values")
    forget_file(loaded)
    loaded.save_pretrained(out)


def _check_tensors(model: Path, header: GgufHeader) -> None:
    """Raise InputError for tensors that the file's model lacks, has no place for, or has in another shape."""
    skeleton, places = _places(model)
    needed = {name: tuple(tensor.shape) for name, tensor in skeleton.named_parameters()}
    stored = {place: own for own, place in places.items() if own in header.tensors}
    called = {place: own for own, place in places.items()}
    missing = [called.get(name, name) for name in needed if name not in stored]
    if missing:
        raise InputError(f"{model}: lacks {missing[0]} ({len(missing)} missing)")
    surplus = [name for name in header.tensors if name not in places]
    if surplus:
        raise InputError(
            f"{model}: holds {surplus[0]}, which {type(skeleton).__name__} does not use as the file describes it "
            f"({len(surplus)} such tensors)"
        )
    for name, shape in needed.items():
        own = header.tensors[stored[name]].shape
        if own != shape:
            raise InputError(
                f"{model}: {stored[name]} is {own}, and its metadata calls for {shape}"
            )


def _places(model: Path) -> tuple[Any, dict[str, str]]:
    """The model on the meta device, and its tensors' names by those of the file, as transformers maps them."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model.parent, gguf_file=model.name)
    with init_empty_weights(include_buffers=False):
        skeleton = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    skeleton.tie_weights()
    architecture = str(read_gguf_header(model).fields.get("general.architecture"))
    return skeleton, tensor_places(skeleton, architecture, config)
