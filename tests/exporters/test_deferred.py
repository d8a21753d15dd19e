"""Deferred tensors: shapes now, values later and only those that are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from edgepeft_exporters.lazy.deferred import Deferred, defer_parameters

Operation = Callable[[torch.Tensor, torch.Tensor], Any]

OPERATIONS: dict[str, Operation] = {
    "transpose": lambda a, b: a.transpose(0, 1),
    "T": lambda a, b: a.T,
    "slice of rows": lambda a, b: a[2:5],
    "slice of columns": lambda a, b: a[:, 1:3],
    "slice then transpose": lambda a, b: a[:4].T,
    "row": lambda a, b: a[1],
    "cat": lambda a, b: torch.cat([a, b]),
    "cat of columns": lambda a, b: torch.cat([a.T, b.T], dim=1),
    "cat with a plain tensor": lambda a, b: torch.cat([a, torch.ones(1, 4)]),
    "stack": lambda a, b: torch.stack([a, b]),
    "add": lambda a, b: a + b,
    "add a number": lambda a, b: a + 1.0,
    "number minus": lambda a, b: 1.0 - a,
    "multiply": lambda a, b: a * 0.5,
    "divide": lambda a, b: a / b.abs().clamp(min=1.0),
    "matmul": lambda a, b: a @ b.T,
    "reshape": lambda a, b: a.reshape(2, 12),
    "view and permute": lambda a, b: a.view(3, 2, 4).permute(1, 0, 2).reshape(6, 4),
    "unsqueeze": lambda a, b: a.unsqueeze(0).expand(2, 6, 4),
    "half": lambda a, b: a.to(torch.float16),
    "contiguous": lambda a, b: a.T.contiguous(),
    "detach and clone": lambda a, b: a.detach().clone(),
    "negate": lambda a, b: -a,
    "sum": lambda a, b: a.sum(dim=1),
    "split": lambda a, b: torch.split(a, [1, 2, 3])[1],
    "chunk": lambda a, b: a.chunk(3)[2],
}


@pytest.fixture
def loaded() -> list[str]:
    """Names in the order they were fetched."""
    return []


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(6, 4, generator=generator) for name in ("a", "b")}


@pytest.fixture
def defer(loaded: list[str], weights: dict[str, torch.Tensor]) -> Callable[[str], Deferred]:
    def load(name: str) -> torch.Tensor:
        loaded.append(name)
        return weights[name]

    def make(name: str) -> Deferred:
        shadow = torch.empty(weights[name].shape, device="meta")
        return Deferred(shadow, lambda source: source(name), load, frozenset({name}))

    return make


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_is_done_on_shapes_first_and_on_values_when_evaluated(
    name: str, defer: Any, loaded: list[str], weights: dict[str, torch.Tensor]
) -> None:
    expected = OPERATIONS[name](weights["a"], weights["b"])
    result = OPERATIONS[name](defer("a"), defer("b"))
    assert isinstance(result, Deferred)
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    assert result.stride() == expected.stride()
    assert result.device.type == "cpu"
    assert loaded == []
    value = result.evaluate()
    assert not isinstance(value, Deferred)
    assert torch.equal(value, expected)
    assert set(loaded) <= {"a", "b"}


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda a: a[1, 2].item(), lambda a: a[1, 2].item()),
        (lambda a: bool((a == 0).all()), lambda a: False),
        (lambda a: bool((a - a == 0).all()), lambda a: True),
        (lambda a: float(a.sum()), lambda a: float(a.sum())),
    ],
)
def test_reading_a_value_evaluates_it(
    read: Any, expected: Any, defer: Any, loaded: list[str], weights: dict[str, torch.Tensor]
) -> None:
    assert read(defer("a")) == expected(weights["a"])
    assert set(loaded) == {"a"}


def test_what_is_known_without_values_loads_nothing(defer: Any, loaded: list[str]) -> None:
    tensor = defer("a")
    assert len(tensor) == 6
    assert tensor.numel() == 24
    assert tensor.T.shape == (4, 6)
    assert "(6, 4)" in repr(tensor)
    assert "float32" in str(tensor)
    assert not tensor.requires_grad
    assert loaded == []


def test_names_of_weights_are_told_without_loading_any(defer: Any, loaded: list[str]) -> None:
    both = torch.cat([defer("a"), defer("b")]).T
    assert both.names() == {"a", "b"}
    assert both.split(6, dim=1)[0].names() == {"a", "b"}
    assert (defer("a").T * 2).names() == {"a"}
    assert loaded == []


def test_each_evaluation_fetches_anew_and_keeps_nothing(defer: Any, loaded: list[str]) -> None:
    tensor = defer("a").T
    tensor.evaluate()
    tensor.evaluate()
    assert loaded == ["a", "a"]


def test_same_expression_over_other_tensors(defer: Any, loaded: list[str]) -> None:
    numbers = torch.arange(24.0).reshape(6, 4)
    assert torch.equal(defer("a")[2:4].T.evaluate(lambda name: numbers), numbers[2:4].T)
    assert loaded == []


class Tied(nn.Module):  # type: ignore[misc]  # torch is not followed
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.inner = nn.Sequential(nn.Linear(4, 4, bias=True))
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embedding.weight


def test_parameters_of_a_module_are_replaced_and_tied_ones_stay_tied(
    loaded: list[str], weights: dict[str, torch.Tensor]
) -> None:
    asked: list[str] = []

    def load(name: str) -> torch.Tensor:
        asked.append(name)
        return weights["a"]

    with torch.device("meta"):
        skeleton = Tied()
    module = defer_parameters(skeleton, load)
    parameters = dict(module.named_parameters())
    assert set(parameters) == {"embedding.weight", "inner.0.weight", "inner.0.bias"}
    assert all(isinstance(parameter, Deferred) for parameter in parameters.values())
    assert module.head.weight is module.embedding.weight
    assert asked == []
    assert torch.equal(module.head.weight.T.evaluate(), weights["a"].T)
    assert asked == ["embedding.weight"]
