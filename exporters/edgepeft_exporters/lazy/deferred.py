"""Tensors that remember how to be computed instead of what they hold.

The graph builder reads a model's parameters, transposes, slices and joins them, and hands the results on as
initializers. Given deferred parameters it does all that on shapes alone; each result is a small expression over
named checkpoint tensors that is evaluated when the initializer is written, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from edgepeft_exporters.compat.torch_wrapper import each_leaf, reads_value, wrapper

Load = Callable[[str], torch.Tensor]


class Deferred(torch.Tensor):  # type: ignore[misc]  # torch is not followed by mypy
    """A tensor of known shape and dtype whose value is an expression over named weights.

    Operators on it yield further deferred tensors; reading a value (``bool``, ``item``) evaluates it. ``load``
    fetches a named weight and is shared by all tensors of one model.
    """

    _shadow: torch.Tensor
    _expression: Callable[[Load], torch.Tensor]
    _load: Load
    _names: frozenset[str]

    @staticmethod
    def __new__(
        cls,
        shadow: torch.Tensor,
        expression: Callable[[Load], torch.Tensor],
        load: Load,
        names: frozenset[str],
    ) -> Deferred:
        """Wrap ``shadow``, a meta tensor with the value's shape, strides and dtype.

        ``names`` are the weights that the expression reads.
        """
        made: Deferred = wrapper(cls, shadow)
        made._shadow, made._expression = shadow, expression
        made._load, made._names = load, names
        return made

    def evaluate(self, load: Load | None = None) -> torch.Tensor:
        """Compute the value; another ``load`` computes the same expression over other tensors."""
        return self._expression(load or self._load)

    def names(self) -> frozenset[str]:
        """The checkpoint weights that the expression reads; none is fetched to tell."""
        return self._names

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        """Shape and dtype; printing must not compute."""
        return f"Deferred({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator on shapes now and remember it for the values later."""
        kwargs = kwargs or {}
        operands: list[Deferred] = []
        each_leaf(lambda x: operands.append(x) if isinstance(x, Deferred) else None, (args, kwargs))
        load = operands[0]._load
        names = operands[0]._names.union(*(one._names for one in operands))

        def compute(source: Load) -> Any:
            real_args, real_kwargs = each_leaf(
                lambda x: x.evaluate(source) if isinstance(x, Deferred) else x, (args, kwargs)
            )
            return func(*real_args, **real_kwargs)

        if reads_value(func):
            return compute(load)
        meta_args, meta_kwargs = each_leaf(
            lambda x: (
                x._shadow
                if isinstance(x, Deferred)
                else x.to("meta")
                if isinstance(x, torch.Tensor)
                else x
            ),
            (args, kwargs),
        )
        shadow = func(*meta_args, **meta_kwargs)
        if isinstance(shadow, torch.Tensor):
            return cls(shadow, compute, load, names)
        if isinstance(shadow, (list, tuple)) and any(isinstance(s, torch.Tensor) for s in shadow):
            return type(shadow)(
                cls(part, _nth(compute, index), load, names) for index, part in enumerate(shadow)
            )
        return shadow


def _nth(compute: Callable[[Load], Any], index: int) -> Callable[[Load], torch.Tensor]:
    return lambda source: compute(source)[index]


def _fetch(name: str) -> Callable[[Load], torch.Tensor]:
    return lambda source: source(name)


def defer_parameters(model: Any, load: Load, dtype: torch.dtype = torch.float32) -> Any:
    """Replace a skeleton's parameters by deferred ones that ``load`` fetches by name; tied ones stay tied."""
    made: dict[int, torch.nn.Parameter] = {}
    for prefix, module in model.named_modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in made:
                full = f"{prefix}.{name}" if prefix else name
                shadow = torch.empty(parameter.shape, dtype=dtype, device="meta")
                deferred = Deferred(shadow, _fetch(full), load, frozenset({full}))
                made[id(parameter)] = torch.nn.Parameter(deferred, requires_grad=False)
            setattr(module, name, made[id(parameter)])
    return model


def named_weight(name: str, shape: tuple[int, ...], load: Load) -> Deferred:
    """A float32 checkpoint weight by its name, fetched when it is evaluated."""
    shadow = torch.empty(shape, dtype=torch.float32, device="meta")
    return Deferred(shadow, _fetch(name), load, frozenset({name}))
