"""Keeps an adapter where it is while PEFT wraps a skeleton.

Written for peft 0.21. Replaces ``BaseTunerLayer._move_adapter_to_device_of_base_layer`` and, within, lets
``torch.nn.Module.to`` pass over the meta device. PEFT moves an adapter to the device of its base layer, which
for a skeleton is meta: there its values are lost, and adding them raises nothing. A switch of PEFT's that
leaves adapters on the CPU would make this unnecessary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def adapter_stays_put() -> Iterator[None]:
    """Keep PEFT from moving an adapter to its base layer's device, which for a skeleton is meta."""
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    move, to = BaseTunerLayer._move_adapter_to_device_of_base_layer, torch.nn.Module.to

    def to_any_but_meta(module: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = args[0] if args else kwargs.get("device")
        return module if str(wanted) == "meta" else to(module, *args, **kwargs)

    BaseTunerLayer._move_adapter_to_device_of_base_layer = lambda *args, **kwargs: None
    torch.nn.Module.to = to_any_but_meta
    try:
        yield
    finally:
        BaseTunerLayer._move_adapter_to_device_of_base_layer = move
        torch.nn.Module.to = to
