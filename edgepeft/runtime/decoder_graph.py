"""A decoder graph that plain onnxruntime has opened: what its inputs are, what they are fed, and its cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgepeft.errors import EdgepeftError, InputError
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.cache_tensors import CacheTensor, cache_tensors
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

_INT_TYPES: dict[str, npt.DTypeLike] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
Cache = dict[str, tuple[npt.NDArray[Any], Any]]
"""A cache by the names of its inputs, shaped as ``CacheTensor.sized``: as numpy and as onnxruntime see the same
memory.
"""


class DecoderGraph:
    """A decoder graph with a cache of what it has read among its inputs, opened in plain onnxruntime.

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
        self.cache_tensors: Sequence[CacheTensor] = cache_tensors(
            self.model_file, self._inputs.values()
        )
        self._past = [one.name for one in self.cache_tensors]
        self._present = [one.present for one in self.cache_tensors]
        self._refuse_unknown(outputs)
        self._empty = [one.empty() for one in self.cache_tensors]
        self.rotary_switch = source.rotary_switch if isinstance(source, Bundle) else None
        # Fed as inputs, for runs with bound inputs pass over the active adapters of their options.
        self._adapter = FactorFile() if adapter is None else _factors_of(adapter)

    def new_cache(self, rows: int, capacity: int) -> Cache:
        """An empty cache for ``rows`` sequences of up to ``capacity`` tokens each. Raises InputError for a graph
        whose cache numpy can't hold.
        """
        import onnxruntime as ort

        made: Cache = {}
        for one in self.cache_tensors:
            if one.dtype is None:
                raise InputError(
                    f"{self.model_file}: keeps a cache of bfloat16; it can't be batched"
                )
            # onnxruntime works in numpy's own memory, so a row can be written from outside.
            values = np.zeros(one.sized(rows, capacity), one.dtype)
            made[one.name] = (values, ort.OrtValue.ortvalue_from_numpy(values))
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


def _factors_of(path: Path) -> FactorFile:
    try:
        return read_factors(path)
    except RuntimeError as error:
        raise EdgepeftError(f"{path}: onnxruntime cannot load it ({error})") from error
