"""Tiny checkpoints as tools publish them rounded, written element by element from each format's specification.

Nothing of edgepeft takes part. Each writer also says what its weights are: codes times scales in float32.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]
Floats = NDArray[np.float32]
LEFT_OUT = "model.layers.1.mlp.up_proj"
"""A layer that every one of these checkpoints keeps as it was."""
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def gptq(**said: Any) -> dict[str, Any]:
    """What GPTQ's tools write into a configuration."""
    return {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 32,
        "desc_act": False,
        "sym": True,
        **said,
    }


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}


def fp8(**said: Any) -> dict[str, Any]:
    """What DeepSeek-V3 and its like have in their configuration."""
    return {"quant_method": "fp8", "activation_scheme": "dynamic", **said}


def compressed(form: str, **weights: Any) -> dict[str, Any]:
    """What compressed-tensors writes into a configuration, of one group of modules."""
    scheme = {"num_bits": 4, "type": "int", "strategy": "group", "symmetric": True, **weights}
    group = {"targets": ["Linear"], "weights": scheme}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "ignore": ["lm_head", LEFT_OUT],
        "config_groups": {"group_0": group},
    }


_EIGHT = {"num_bits": 8, "strategy": "channel"}
CASES: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gptq": (gptq(), {}),
    "gptq-act-order": (gptq(desc_act=True, sym=False, group_size=16), {"bias": True}),
    "gptq-v2-3-bits": (gptq(bits=3, sym=False, checkpoint_format="gptq_v2"), {}),
    "gptq-2-bits-by-row": (gptq(bits=2, group_size=-1), {"index": False}),
    "gptq-8-bits": (gptq(bits=8, sym=False, group_size=64), {}),
    "awq": (AWQ, {}),
    "awq-by-row": ({**AWQ, "group_size": -1}, {}),
    "fp8-blocks": (fp8(weight_block_size=[32, 32]), {}),
    "fp8-cut-blocks": (fp8(weight_block_size=[48, 128]), {"scale": torch.bfloat16}),
    "fp8-exponents": (fp8(weight_block_size=[32, 32], scale_fmt="ue8m0"), {"scale": torch.uint8}),
    "fp8-tensor": (fp8(activation_scheme="static"), {}),
    "packed": (compressed("pack-quantized", group_size=32), {}),
    "packed-asymmetric": (compressed("pack-quantized", group_size=16, symmetric=False), {}),
    "packed-8-bits": (compressed("pack-quantized", **_EIGHT), {}),
    "packed-bare-zeros": (
        compressed("pack-quantized", group_size=32, symmetric=False),
        {"packs_zeros": False},
    ),
    "compressed-int8": (compressed("int-quantized", **_EIGHT), {}),
    "compressed-int8-asymmetric": (
        compressed("int-quantized", **_EIGHT, symmetric=False),
        {},
    ),
    "compressed-fp8": (compressed("float-quantized", **_EIGHT, type="float"), {}),
}
"""Checkpoints by a short name: their ``quantization_config``, and how they are written besides."""


def publish(model: Path, out: Path, said: Mapping[str, Any], **how: Any) -> Path:
    """Write ``model`` rounded into ``out``, with ``said`` as its ``quantization_config``.

    What its weights are goes into a checkpoint of its own, ``float`` beside ``out``.
    """
    write = {"gptq": _gptq, "awq": _awq, "fp8": _fp8, "compressed-tensors": _compressed}
    whole = load_file(model / "model.safetensors")
    stored: Tensors = {}
    known: Tensors = {}
    for name, tensor in whole.items():
        module = name.removesuffix(".weight")
        if "_proj.weight" not in name or module == LEFT_OUT:
            stored[name] = known[name] = tensor
            continue
        parts, found = write[said["quant_method"]](tensor.float().numpy(), said, **how)
        stored |= {f"{module}.{part}": value for part, value in parts.items()}
        known[name] = torch.from_numpy(found)
    _save(model, out, stored, {"quantization_config": dict(said)})
    _save(model, out.with_name("float"), known, {})
    return out


def _save(model: Path, out: Path, tensors: Tensors, more: Mapping[str, Any]) -> None:
    out.mkdir(parents=True)
    for file in model.iterdir():
        if file.suffix != ".safetensors":
            shutil.copyfile(file, out / file.name)
    config = json.loads((model / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, **more}))
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(whole, out / "model.safetensors", metadata={"format": "pt"})


def change(folder: Path, out: Path, **said: Any) -> Path:
    """A copy of a checkpoint whose ``quantization_config`` says other things; None takes a key off."""
    shutil.copytree(folder, out)
    config = json.loads((out / "config.json").read_text())
    whole = {**config["quantization_config"], **said}
    config["quantization_config"] = {key: one for key, one in whole.items() if one is not None}
    (out / "config.json").write_text(json.dumps(config))
    return out


def _gptq(
    weight: Floats, said: Mapping[str, Any], *, bias: bool = False, index: bool = True
) -> tuple[Tensors, Floats]:
    bits, offset = said["bits"], 0 if said.get("checkpoint_format") == "gptq_v2" else 1
    rows, width = weight.shape
    size = width if said["group_size"] == -1 else said["group_size"]
    group = [column // size for column in range(width)]
    if said["desc_act"]:
        random.Random(rows + width).shuffle(group)
    codes, scales, zeros, found = _rounded(weight, group, bits, least=1, symmetric=said["sym"])
    parts = {
        "qweight": _words([_packed(codes[row], bits) for row in range(rows)]).T,
        "qzeros": _words([_packed([zero - offset for zero in line], bits) for line in zeros.T]),
        "scales": torch.from_numpy(scales.T.copy()).half(),
    }
    if index:
        parts["g_idx"] = torch.tensor(group, dtype=torch.int32)
    if bias:
        parts["bias"] = torch.zeros(rows, dtype=torch.float16)
    return parts, found


def _awq(weight: Floats, said: Mapping[str, Any]) -> tuple[Tensors, Floats]:
    rows, width = weight.shape
    size = width if said["group_size"] == -1 else said["group_size"]
    group = [column // size for column in range(width)]
    codes, scales, zeros, found = _rounded(weight, group, said["bits"], least=0, symmetric=False)

    def interleaved(line: NDArray[np.int64]) -> list[int]:
        return [
            sum(int(line[start + one]) << (4 * place) for place, one in enumerate(_AWQ_ORDER))
            for start in range(0, rows, 8)
        ]

    parts = {
        "qweight": _words([interleaved(codes[:, column]) for column in range(width)]),
        "qzeros": _words([interleaved(zeros[:, one]) for one in range(zeros.shape[1])]),
        "scales": torch.from_numpy(scales.T.copy()).half(),
    }
    return parts, found


def _fp8(
    weight: Floats, said: Mapping[str, Any], *, scale: torch.dtype = torch.float32
) -> tuple[Tensors, Floats]:
    rows, width = weight.shape
    tall, wide = said.get("weight_block_size") or (
        (1, width) if said.get("by_row") else (rows, width)
    )
    grid = np.zeros((-(-rows // tall), -(-width // wide)), np.float32)
    for row in range(rows):
        for column in range(width):
            at = row // tall, column // wide
            grid[at] = max(grid[at], abs(float(weight[row, column])) / 448)
    exponents = np.ceil(np.log2(grid)) + 127
    if scale == torch.uint8:
        grid = np.exp2(exponents - 127).astype(np.float32)
    else:
        grid = torch.from_numpy(grid).to(scale).float().numpy()
    spread = np.array(
        [[grid[row // tall, column // wide] for column in range(width)] for row in range(rows)],
        np.float32,
    )
    codes = torch.from_numpy(weight / spread).to(torch.float8_e4m3fn)
    kept = torch.from_numpy(exponents if scale == torch.uint8 else grid).to(scale)
    if said.get("weight_block_size") is None and not said.get("by_row"):
        kept = kept.reshape(())
    parts = {"weight": codes, "weight_scale_inv": kept, "activation_scale": torch.ones(1)}
    return parts, codes.float().numpy() * spread


def _compressed(
    weight: Floats, said: Mapping[str, Any], *, packs_zeros: bool = True
) -> tuple[Tensors, Floats]:
    (scheme,) = (group["weights"] for group in said["config_groups"].values())
    rows, width = weight.shape
    bits, half = scheme["num_bits"], 1 << (scheme["num_bits"] - 1)
    if scheme["type"] == "float":
        parts, found = _fp8(weight, {"by_row": True})
        return {"weight": parts["weight"], "weight_scale": parts["weight_scale_inv"]}, found
    size = scheme["group_size"] if scheme["strategy"] == "group" else width
    group = [column // size for column in range(width)]
    codes, scales, zeros, found = _rounded(
        weight, group, bits, least=0, symmetric=scheme["symmetric"]
    )
    beside = {"weight_scale": torch.from_numpy(scales)}
    unpacked = torch.from_numpy(zeros - half).to(torch.int8)
    if said["format"] != "pack-quantized":
        if not scheme["symmetric"]:
            beside["weight_zero_point"] = unpacked
        return {"weight": torch.from_numpy(codes - half).to(torch.int8), **beside}, found
    parts = {
        "weight_packed": _words([_packed(codes[row], bits) for row in range(rows)]),
        "weight_shape": torch.tensor([rows, width]),
        **beside,
    }
    if not scheme["symmetric"]:
        packed = _words([_packed(line, bits) for line in zeros.T]).T
        parts["weight_zero_point"] = packed if packs_zeros else unpacked
    return parts, found


def _rounded(
    weight: Floats, group: Sequence[int], bits: int, *, least: int, symmetric: bool
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64], Floats]:
    """Codes [N, K] from 0 up, scales [N, groups] of half precision, zeros [N, groups] from ``least`` up, and what
    they come to.
    """
    rows, width = weight.shape
    count, top = max(group) + 1, (1 << bits) - 1
    codes, found = np.zeros((rows, width), np.int64), np.zeros((rows, width), np.float32)
    scales, zeros = np.zeros((rows, count), np.float32), np.zeros((rows, count), np.int64)
    for row in range(rows):
        for one in range(count):
            members = [column for column in range(width) if group[column] == one]
            low = min(0.0, *(float(weight[row, column]) for column in members))
            high = max(0.0, *(float(weight[row, column]) for column in members))
            if symmetric:
                low, high = -max(-low, high), max(-low, high)
            scale = np.float32(np.float16((high - low) / top))
            zero = (top + 1) // 2 if symmetric else min(top, max(least, round(-low / float(scale))))
            scales[row, one], zeros[row, one] = scale, zero
            for column in members:
                code = min(top, max(0, round(float(weight[row, column] / scale)) + zero))
                codes[row, column] = code
                found[row, column] = np.float32(code - zero) * scale
    return codes, scales, zeros, found


def _packed(values: Sequence[int] | NDArray[np.int64], bits: int) -> list[int]:
    """Numbers of ``bits`` bits as one long number, the first in its lowest bits, cut into words."""
    long = sum(int(value) << (bits * place) for place, value in enumerate(values))
    count = -(-len(values) * bits // 32)
    return [long >> (32 * word) & 0xFFFFFFFF for word in range(count)]


def _words(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    return torch.from_numpy(np.array(rows, np.uint32).view(np.int32))
