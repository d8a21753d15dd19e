"""A skeleton that calibration runs through, given what of an adapter did not merge."""

from __future__ import annotations

from typing import Any

import torch

from edgepeft.merging.unmerged import Unmerged


def calibration_lead(unmerged: Unmerged | None) -> int:
    """How many ids that stand for virtual tokens begin every sequence that runs through the skeleton."""
    return 0 if unmerged is None else unmerged.virtual_tokens


def carry(skeleton: Any, unmerged: Unmerged | None) -> None:
    """Have a model compute, in place, what the adapter makes of it beyond its weights.

    Virtual tokens take the first places of every sequence, whatever ids stand there.
    """
    if unmerged is None:
        return
    rows = unmerged.tensors["embeddings"]

    def lead(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        first = rows.to(output.dtype).expand(len(output), -1, -1)
        return torch.cat([first, output[:, len(rows) :]], dim=1)

    skeleton.get_input_embeddings().register_forward_hook(lead)
