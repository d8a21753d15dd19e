"""Which rows of which weights stand behind an initializer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from edgepeft.quantization.packed_weights import QuantizedWeights
from edgepeft_exporters.lazy.deferred import Deferred


class Rows:
    """The rows of checkpoint weights that an initializer [N, K] consists of, in order."""

    def __init__(self, names: list[str], which: torch.Tensor, rows: torch.Tensor) -> None:
        self.names = names
        self._which = which
        self._rows = rows

    def whole(self, quantized: QuantizedWeights) -> bool:
        """Whether these are all the rows of one weight in their order, not some of them as in a fused Q, K, V."""
        count = quantized.plan.weights[self.names[0]].shape[0]
        return len(self.names) == 1 and self._rows.numel() == count and _counts_up(self._rows)

    def runs(self) -> list[tuple[str, int, int]]:
        """The same as stretches: a weight's name, its first row, and the one after its last."""
        found: list[tuple[str, int, int]] = []
        for index, row in zip(self._which.tolist(), self._rows.tolist(), strict=True):
            name = self.names[index]
            if found and found[-1][0] == name and found[-1][2] == row:
                found[-1] = (name, found[-1][1], row + 1)
            else:
                found.append((name, row, row + 1))
        return found

    def gather(self, fetch: Callable[[str], torch.Tensor]) -> torch.Tensor:
        """Assemble a per-row tensor (codes, scales, ...) of the initializer from those of its weights."""
        if len(self.names) == 1:
            part = fetch(self.names[0])
            whole = self._rows.numel() == part.shape[0] and _counts_up(self._rows)
            return part if whole else part[self._rows]
        parts = [fetch(name) for name in self.names]
        made = parts[0].new_empty((self._rows.numel(), *parts[0].shape[1:]))
        for index, part in enumerate(parts):
            mine = self._which == index
            made[mine] = part[self._rows[mine]]
        return made


def _counts_up(rows: torch.Tensor) -> bool:
    return bool((rows == torch.arange(rows.numel())).all())


def quantized_shapes(quantized: QuantizedWeights) -> dict[str, tuple[int, int]]:
    """Rows and width of every quantized weight."""
    return {name: entry.shape for name, entry in quantized.plan.weights.items()}


def rows_of(tensor: Deferred, shapes: Mapping[str, tuple[int, int]]) -> Rows | None:
    """Whose rows the columns of a MatMul weight [K, N] are; None where it isn't made of rows of ``shapes`` alone.

    ``shapes`` are rows and width of the weights to look for.
    """
    names: list[str] = []
    unknown = False

    def numbered(name: str, by_row: bool) -> torch.Tensor:
        nonlocal unknown
        if name not in shapes:
            unknown = True
            raise KeyError(name)
        rows, width = shapes[name]
        if name not in names:
            names.append(name)
        if by_row:
            code = torch.arange(rows, dtype=torch.float64) + names.index(name) * 2.0**32
            return code[:, None].expand(rows, width)
        return torch.arange(width, dtype=torch.float64)[None, :].expand(rows, width)

    try:
        by_row = tensor.evaluate(lambda name: numbered(name, True))
        by_column = tensor.evaluate(lambda name: numbered(name, False))
    except KeyError:
        if unknown:
            return None
        raise
    # Views keep the stride 0 of the numbers they were expanded from, so whole rows show without a comparison.
    same_down = by_row.stride(0) == 0 or bool((by_row == by_row[0]).all())
    columns = torch.arange(by_column.shape[0], dtype=by_column.dtype)
    in_order = by_column.stride(1) == 0 or bool((by_column == by_column[:, :1]).all())
    if not (same_down and in_order and torch.equal(by_column[:, 0], columns)):
        return None
    codes = by_row[0].to(torch.int64)
    return Rows(names, codes >> 32, codes & 0xFFFFFFFF)
