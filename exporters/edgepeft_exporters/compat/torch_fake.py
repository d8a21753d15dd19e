"""Parameters that have shapes and no values, for torch's exporter.

Written for torch 2.13. Uses ``FakeTensorMode`` and ``FakeTensor`` of ``torch._subclasses.fake_tensor``: the
exporter traces a model with such parameters, and leaves them as its graph's initializers, in
``TorchTensor.raw``. An exporter that takes a model without weights would make this unnecessary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode


def without_values() -> Any:
    """A context in which tensors are made without values; those with values may go with them."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def fake_parameters(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Replace every parameter of a module by one of ``dtype`` without a value; within ``without_values``."""
    for owner in module.modules():
        for name, parameter in list(owner.named_parameters(recurse=False)):
            fake = torch.empty(parameter.shape, dtype=dtype)
            setattr(owner, name, torch.nn.Parameter(fake, requires_grad=False))


def has_no_value(initializer: Any) -> bool:
    """Whether an initializer's tensor, as torch's exporter made it, is of a parameter without a value."""
    return isinstance(getattr(initializer, "raw", None), FakeTensor)
