"""Tensors that remember how to be computed instead of what they hold.

The graph builder reads a model's parameters, transposes, slices and joins them, and hands the results on as
initializers. Given deferred parameters it does all that on shapes alone; each result is a small expression over
named checkpoint tensors that is evaluated when the initializer is written, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_map

Load = Callable[[str], torch.Tensor]


class Deferred(torch.Tensor):  # type: ignore[misc]  # torch is not followed by mypy
    """A tensor of known shape and dtype whose value is an expression over named weights.

    Operators on it yield further deferred tensors; reading a value (``bool``, ``item``) evaluates it. ``load``
    fetches a named weight and is shared by all tensors of one model.
    """

    _shadow: torch.Tensor
    _expression: Callable[[Load], torch.Tensor]
    _load: Load

    @staticmethod
    def __new__(
        cls, shadow: torch.Tensor, expression: Callable[[Load], torch.Tensor], load: Load
    ) -> Deferred:
        """Wrap ``shadow``, a meta tensor with the value's shape, strides and dtype."""
        made: Deferred = torch.Tensor._make_wrapper_subclass(
            cls,
            shadow.shape,
            strides=shadow.stride(),
            dtype=shadow.dtype,
            device="cpu",
            requires_grad=False,
        )
        made._shadow, made._expression, made._load = shadow, expression, load
        return made

    def evaluate(self, load: Load | None = None) -> torch.Tensor:
        """Compute the value; another ``load`` computes the same expression over other tensors."""
        return self._expression(load or self._load)

    def names(self) -> set[str]:
        """The checkpoint weights that the expression reads; it is computed to find them."""
        found: set[str] = set()

        def note(name: str) -> torch.Tensor:
            found.add(name)
            return self._load(name)

        self._expression(note)
        return found

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        """Shape and dtype; printing must not compute."""
        return f"Deferred({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator on shapes now and remember it for the values later."""
        kwargs = kwargs or {}
        load = _first_load((args, kwargs))

        def compute(source: Load) -> Any:
            real_args, real_kwargs = tree_map(
                lambda x: x.evaluate(source) if isinstance(x, Deferred) else x, (args, kwargs)
            )
            return func(*real_args, **real_kwargs)

        if func is torch.ops.aten._local_scalar_dense.default:
            return compute(load)
        meta_args, meta_kwargs = tree_map(
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
            return cls(shadow, compute, load)
        if isinstance(shadow, (list, tuple)) and any(isinstance(s, torch.Tensor) for s in shadow):
            return type(shadow)(
                cls(part, _nth(compute, index), load) for index, part in enumerate(shadow)
            )
        return shadow


def _nth(compute: Callable[[Load], Any], index: int) -> Callable[[Load], torch.Tensor]:
    return lambda source: compute(source)[index]


def _fetch(name: str) -> Callable[[Load], torch.Tensor]:
    return lambda source: source(name)


def _first_load(tree: Any) -> Load:
    found: list[Load] = []
    tree_map(lambda x: found.append(x._load) if isinstance(x, Deferred) else None, tree)
    return found[0]


def defer_parameters(model: Any, load: Load, dtype: torch.dtype = torch.float32) -> Any:
    """Replace a skeleton's parameters by deferred ones that ``load`` fetches by name; tied ones stay tied."""
    made: dict[int, torch.nn.Parameter] = {}
    for prefix, module in model.named_modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in made:
                full = f"{prefix}.{name}" if prefix else name
                shadow = torch.empty(parameter.shape, dtype=dtype, device="meta")
                deferred = Deferred(shadow, _fetch(full), load)
                made[id(parameter)] = torch.nn.Parameter(deferred, requires_grad=False)
            module._parameters[name] = made[id(parameter)]
    return model


def named_weight(name: str, shape: tuple[int, ...], load: Load) -> Deferred:
    """A float32 checkpoint weight by its name, fetched when it is evaluated."""
    return Deferred(torch.empty(shape, dtype=torch.float32, device="meta"), _fetch(name), load)
