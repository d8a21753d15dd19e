"""A decoder graph that plain onnxruntime has opened: what its inputs are, what they are fed, and its cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgepeft.errors import EdgepeftError, InputError
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.cache_shape import cache_shape
from edgepeft.runtime.devices import CPU
from edgepeft.runtime.factors import FactorFile, read_factors
from edgepeft.runtime.sessions import (
    Provider,
    check_ids,
    open_session,
    run_session,
    session_entries,
)

if TYPE_CHECKING:
    import onnxruntime as ort

# onnxruntime's name of a tensor type to ONNX's number for it; numpy has no bfloat16.
_FLOAT_TYPES = {"tensor(float)": 1, "tensor(float16)": 10, "tensor(bfloat16)": 16}
_INT_TYPES: dict[str, npt.DTypeLike] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_NUMPY_TYPES: dict[str, npt.DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}
Cache = dict[str, tuple[npt.NDArray[Any], Any]]
"""A key-value cache by the names of its inputs: [rows, kv heads, capacity, head size], as numpy and as
onnxruntime see the same memory.
"""


class DecoderGraph:
    """A decoder graph with a key-value cache among its inputs, opened in plain onnxruntime.

    ``vocab_size`` is the width of the logits, ``provider`` the execution provider in use.
    """

    def __init__(
        self,
        source: Bundle | Path | str,
        *,
        threads: int | None = None,
        providers: Sequence[Provider] | None = None,
        adapter: Path | None = None,
    ) -> None:
        """Load ``source``, a bundle or an ONNX file of one; ``adapter`` is an adapter file made for it.

        ``providers`` is tried in order as onnxruntime does, by default the bundle's own (for a
        file: the CPU). Raises MissingError when onnxruntime or the first provider is not there,
        EdgepeftError when another than the first provider took the graph or it cannot be loaded,
        InputError for a graph whose inputs are not those of a decoder.
        """
        self.model_file = source.model_file if isinstance(source, Bundle) else Path(source)
        default = source.provider if isinstance(source, Bundle) else CPU
        entries = session_entries(source) if isinstance(source, Bundle) else {}
        self._session = open_session(self.model_file, threads, providers or [default], entries)
        self.provider: str = self._session.get_providers()[0]
        self._inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = {node.name: node for node in self._session.get_outputs()}
        if "logits" not in outputs or "input_ids" not in self._inputs:
            raise InputError(f"{self.model_file}: not a decoder graph (no input_ids or no logits)")
        self.vocab_size = int(outputs["logits"].shape[-1])
        self._past = [name for name in self._inputs if name.startswith("past_key_values.")]
        self._present = [name.replace("past_key_values", "present", 1) for name in self._past]
        self._refuse_unknown(outputs)
        self._empty = self._empty_cache()
        self.rotary_switch = source.rotary_switch if isinstance(source, Bundle) else None
        # Fed as inputs, for runs with bound inputs pass over the active adapters of their options.
        self._adapter = FactorFile() if adapter is None else _factors_of(adapter)

    @property
    def cache_names(self) -> Sequence[str]:
        """The inputs that take the key-value cache."""
        return self._past

    def new_cache(self, rows: int, capacity: int) -> Cache:
        """An empty cache for ``rows`` sequences of up to ``capacity`` tokens each. Raises InputError for a graph
        whose cache numpy can't hold.
        """
        import onnxruntime as ort

        made: Cache = {}
        for name, empty in zip(self._past, self._empty, strict=True):
            _, heads, _, size = empty.shape()
            kind = empty.data_type()
            if kind not in _NUMPY_TYPES:
                raise InputError(f"{self.model_file}: keeps a cache of {kind}; it can't be batched")
            # onnxruntime works in numpy's own memory, so a row can be written from outside.
            values = np.zeros((rows, heads, capacity, size), _NUMPY_TYPES[kind])
            made[name] = (values, ort.OrtValue.ortvalue_from_numpy(values))
        return made

    def switches(self, before: int, after: int) -> bool:
        """Whether a cache of ``before`` tokens is of no use for a text of ``after``: it was rotated otherwise."""
        return self.rotary_switch is not None and before <= self.rotary_switch < after

    def _fed(
        self, ids: Sequence[int], past: int, until: int | None = None
    ) -> dict[str, ort.OrtValue]:
        """The inputs that say which tokens are read, and where. Raises InputError for ids that can't be."""
        check_ids(self.model_file, ids, self.vocab_size)
        total = past + len(ids)
        width = total
        if until is not None and self.switches(total, until):
            # The graph takes its factors by the width of the mask, so a text's first part is given a wide one.
            width = (self.rotary_switch or 0) + 1
        values = {
            "input_ids": np.asarray(ids),
            "attention_mask": np.arange(width) < total,
            "position_ids": np.arange(past, total),
        }
        return self._typed({name: value[None] for name, value in values.items()})

    def _typed(self, values: Mapping[str, npt.NDArray[Any]]) -> dict[str, ort.OrtValue]:
        """Whole numbers [rows, tokens] as the graph's inputs of those names take them; others are left out."""
        import onnxruntime as ort

        return {
            name: ort.OrtValue.ortvalue_from_numpy(
                np.ascontiguousarray(values[name], _INT_TYPES[node.type])
            )
            for name, node in self._inputs.items()
            if name in values
        }

    def _run(
        self,
        ids: Sequence[int],
        cache: Sequence[ort.OrtValue],
        past: int,
        wanted: list[str],
        factors: Mapping[str, ort.OrtValue] | None = None,
    ) -> list[ort.OrtValue]:
        """Feed ``ids`` after ``past`` cached tokens and return the ``wanted`` outputs."""
        feed = self._fed(ids, past)
        feed.update(zip(self._past, cache, strict=True))
        feed.update(self._adapter.inputs if factors is None else factors)
        return run_session(self._session, self.model_file, wanted, feed)

    def _refuse_unknown(self, outputs: Mapping[str, Any]) -> None:
        known = {"input_ids", "attention_mask", "position_ids", *self._past}
        strange = sorted(set(self._inputs) - known) + sorted(set(self._present) - set(outputs))
        if strange:
            raise InputError(
                f"{self.model_file}: not a decoder graph edgepeft can feed ({', '.join(strange)})"
            )

    def _empty_cache(self) -> list[ort.OrtValue]:
        """For each layer a cache of no tokens: [1, kv_heads, 0, head_dim] of the graph's type."""
        import onnxruntime as ort

        if not self._past:
            return []
        shape = self._inputs[self._past[0]].shape
        heads, size = (dim if isinstance(dim, int) else 0 for dim in (shape[1], shape[3]))
        if not (heads and size):
            known_heads, known_size = cache_shape(self.model_file)
            heads, size = heads or known_heads, size or known_size
        return [
            ort.OrtValue.ortvalue_from_shape_and_type(
                [1, heads, 0, size], _FLOAT_TYPES[self._inputs[name].type]
            )
            for name in self._past
        ]


def _factors_of(path: Path) -> FactorFile:
    try:
        return read_factors(path)
    except RuntimeError as error:
        raise EdgepeftError(f"{path}: onnxruntime cannot load it ({error})") from error
