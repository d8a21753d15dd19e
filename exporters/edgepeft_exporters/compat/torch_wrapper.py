"""Tensors of a subclass that has no storage of its own.

Written for torch 2.13. Uses ``torch.Tensor._make_wrapper_subclass``, which torch's own examples of
``__torch_dispatch__`` use, ``torch.utils._pytree`` for the tensors in an operator's arguments, and
``aten._local_scalar_dense``, the operator behind ``item()`` and ``bool()``. Public names for them would make
this unnecessary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_map


def wrapper(kind: Any, shadow: torch.Tensor) -> Any:
    """A tensor of class ``kind`` with shape, strides and dtype of ``shadow``, on the CPU and without storage."""
    return torch.Tensor._make_wrapper_subclass(
        kind,
        shadow.shape,
        strides=shadow.stride(),
        dtype=shadow.dtype,
        device="cpu",
        requires_grad=False,
    )


def each_leaf(change: Callable[[Any], Any], tree: Any) -> Any:
    """``tree``, of nested tuples, lists and dicts, with ``change`` applied to whatever else is in it."""
    return tree_map(change, tree)


def reads_value(operator: Any) -> bool:
    """Whether an operator that ``__torch_dispatch__`` gets turns a tensor of one element into a number."""
    return bool(operator is torch.ops.aten._local_scalar_dense.default)
