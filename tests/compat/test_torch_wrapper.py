"""torch gives a tensor without storage to its class, and reads numbers by the one operator."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgepeft_exporters.compat.torch_wrapper import each_leaf, reads_value, wrapper


class Noted(torch.Tensor):  # type: ignore[misc]  # torch is not followed by mypy
    """Notes the operators that it is in, and is seven wherever its value is read."""

    seen: list[Any] = []  # noqa: RUF012 (of the class on purpose)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(func)
        return 7 if reads_value(func) else wrapper(cls, torch.empty(1, device="meta"))


@pytest.fixture
def tensor() -> Any:
    Noted.seen.clear()
    return wrapper(Noted, torch.empty(2, 3, dtype=torch.float16, device="meta").T)


def test_it_has_shape_strides_and_dtype_and_no_storage(tensor: Any) -> None:
    assert isinstance(tensor, Noted)
    assert (tensor.shape, tensor.stride(), tensor.dtype) == ((3, 2), (1, 3), torch.float16)
    assert tensor.device.type == "cpu"
    assert not tensor.requires_grad
    with pytest.raises(RuntimeError):
        tensor.untyped_storage().data_ptr()


@pytest.mark.parametrize("read", [lambda a: a.sum().item(), lambda a: int(a.sum())])
def test_a_number_is_read_by_the_operator_that_is_looked_for(read: Any, tensor: Any) -> None:
    assert read(tensor) == 7
    assert [reads_value(func) for func in Noted.seen][-1]
    assert not reads_value(Noted.seen[0])


def test_leaves_of_an_operators_arguments_are_changed_where_they_are() -> None:
    tree = (1, [2, {"three": 3}], None)
    assert each_leaf(lambda x: x and x + 1, tree) == (2, [3, {"three": 4}], None)
