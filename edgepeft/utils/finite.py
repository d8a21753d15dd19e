"""Whether all of a tensor is finite, at the cost of reading it once."""

from __future__ import annotations

import torch


def all_finite(tensor: torch.Tensor) -> bool:
    """No NaN and no infinity in a tensor of any floating-point type.

    Smallest and largest value carry a NaN on and show infinities, and unlike ``isfinite`` make no temporaries.
    """
    if tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) & torch.isfinite(high))
