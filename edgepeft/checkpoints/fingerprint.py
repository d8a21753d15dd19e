"""A model's fingerprint: which weights an adapter was trained on, whatever file they lie in.

Names, shapes and three rows of every tensor, as float32: enough to tell a model from one of the same shape, cheap
enough to take for every build, and the same for a checkpoint in one file, in shards, or in half precision kept as
float32. Vectors are read whole.
"""

from __future__ import annotations

import hashlib

import torch

from edgepeft.checkpoints.safetensors_io import SafetensorsSource


def fingerprint(source: SafetensorsSource) -> str:
    """SHA-256, in hexadecimal, over the sample of every tensor of a checkpoint."""
    total = hashlib.sha256()
    for name in sorted(source.specs):
        shape = source.specs[name].shape
        total.update(f"{name}\0{shape}\n".encode())
        rows = shape[0] if len(shape) > 1 else 0
        picked = sorted({0, rows // 2, rows - 1}) if rows else None
        sample = source.rows(name, picked).to(torch.float32).contiguous()
        total.update(memoryview(sample.reshape(-1).view(torch.uint8).numpy()))
    return total.hexdigest()
