"""The graph that ships, run by plain onnxruntime: logits of every position, and greedy decoding.

The verifier measures with it, and it answers where onnxruntime-genai is not installed. One sequence at
a time, but for ``stepper``, which takes a step of many.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from edgepeft.errors import EdgepeftError, InputError, one_line
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.cache_shape import cache_shape
from edgepeft.runtime.devices import CPU
from edgepeft.runtime.factors import FactorFile, read_factors
from edgepeft.runtime.sessions import (
    Provider,
    as_float32,
    check_ids,
    open_session,
    run_bound,
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


class Read(Protocol):
    """Reads token ids after ``past`` cached ones, of ``until`` in the end: logits float32 [ids, vocabulary]."""

    def __call__(
        self, ids: Sequence[int], past: int, until: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Raises as ``GraphSession.logits``."""
        ...


Step = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.float32]]


class GraphSession:
    """One onnxruntime session over a decoder graph with a key-value cache among its inputs.

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

    def logits(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Logits after each of ``ids`` (T of them), float32 of shape [T, vocabulary].

        Raises InputError for no ids or ids outside the vocabulary, EdgepeftError when the graph
        fails or was built to return the last position only.
        """
        (logits,) = self._run(ids, self._empty, 0, ["logits"])
        array: npt.NDArray[np.float32] = as_float32(logits)[0]
        if len(array) != len(ids):
            raise EdgepeftError(
                f"{self.model_file}: returns logits of the last position only; export it without "
                "prune_lm_head"
            )
        return array

    def greedy(
        self, prompt_ids: Sequence[int], max_new_tokens: int, stop_ids: Collection[int]
    ) -> list[int]:
        """The likeliest continuation, at most ``max_new_tokens`` ids, without the stop id.

        The cache is passed from step to step, so a step costs one token. Raises as ``logits`` does.
        """
        answer: list[int] = []
        cache: Sequence[ort.OrtValue] = self._empty
        step: Sequence[int] = prompt_ids
        past = 0
        for _ in range(max_new_tokens):
            if past and self.switches(past, past + len(step)):
                step, cache, past = [*prompt_ids, *answer], self._empty, 0
            logits, *cache = self._run(step, cache, past, ["logits", *self._present])
            past += len(step)
            token = int(as_float32(logits)[0, -1].argmax())
            if token in stop_ids:
                break
            answer.append(token)
            step = [token]
        return answer

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

    def read(
        self,
        ids: Sequence[int],
        cache: Sequence[ort.OrtValue] | None,
        past: int,
        factors: Mapping[str, ort.OrtValue],
    ) -> tuple[npt.NDArray[np.float32], list[ort.OrtValue]]:
        """Read ``ids`` after the ``past`` tokens of a cache (None: no tokens).

        Returns logits [vocabulary] after the last of them, and the cache grown by them, a tensor [1, kv heads,
        tokens, head size] for each of ``cache_names``. ``factors`` are an adapter's inputs. Raises as ``logits``.
        """
        wanted = ["logits", *self._present]
        logits, *grown = self._run(ids, cache or self._empty, past, wanted, factors)
        return as_float32(logits)[0, -1], grown

    @property
    def cache_names(self) -> Sequence[str]:
        """The inputs that take the key-value cache."""
        return self._past

    def stepper(
        self, cache: Mapping[str, ort.OrtValue], factors: Mapping[str, ort.OrtValue]
    ) -> Step:
        """A function from each row's newest token and its length so far, int64 [rows], to each row's logits,
        float32 [rows, vocabulary].

        ``cache`` has a tensor [rows, kv heads, capacity, head size] for each of ``cache_names`` and is written in
        place; ``factors`` have a row for each of the cache's.
        """
        import onnxruntime as ort

        binding = self._session.io_binding()
        for name, value in factors.items():
            binding.bind_ortvalue_input(name, value)
        for past, present in zip(self._past, self._present, strict=True):
            binding.bind_ortvalue_input(past, cache[past])
            binding.bind_ortvalue_output(present, cache[past])
        binding.bind_output("logits")

        def step(
            newest: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
        ) -> npt.NDArray[np.float32]:
            mask = np.arange(int(lengths.max()) + 1)[None] <= lengths[:, None]
            values = {
                "input_ids": newest[:, None],
                "attention_mask": mask,
                "position_ids": lengths[:, None],
            }
            for name, value in values.items():
                if name in self._inputs:
                    typed = np.ascontiguousarray(value, _INT_TYPES[self._inputs[name].type])
                    binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(typed))
            try:
                self._session.run_with_iobinding(binding)
            except Exception as error:  # onnxruntime's own exceptions share no base but this
                raise EdgepeftError(
                    f"{self.model_file}: onnxruntime failed on {len(newest)} rows ({one_line(error)})"
                ) from error
            # The logits were bound last.
            logits = binding.get_outputs()[-1]
            found: npt.NDArray[np.float32] = as_float32(logits)[:, -1]
            return found

        return step

    def reader(self, capacity: int) -> Read:
        """A function that reads ids after so many cached tokens: their logits, float32 [ids, vocabulary].

        It has a cache of its own for ``capacity`` tokens, of which those behind what is read are forgotten. Where
        rotary factors switch, it is also told how many tokens there are in the end. Raises InputError for such a
        graph on another provider than the CPU.
        """
        if self.provider != CPU:
            return self._device_reader()
        cache = self.new_cache(1, capacity)
        binding = self._session.io_binding()
        for name, factor in self._adapter.inputs.items():
            binding.bind_ortvalue_input(name, factor)
        for past, present in zip(self._past, self._present, strict=True):
            binding.bind_ortvalue_input(past, cache[past][1])
            binding.bind_ortvalue_output(present, cache[past][1])

        def read(
            ids: Sequence[int], past: int, until: int | None = None
        ) -> npt.NDArray[np.float32]:
            for name, value in self._fed(ids, past, until).items():
                binding.bind_ortvalue_input(name, value)
            # Bound anew each time, for its length is that of ids.
            binding.bind_output("logits")
            run_bound(self._session, self.model_file, binding, len(ids))
            logits: npt.NDArray[np.float32] = as_float32(binding.get_outputs()[-1])[0]
            return logits

        return read

    def switches(self, before: int, after: int) -> bool:
        """Whether a cache of ``before`` tokens is of no use for a text of ``after``: it was rotated otherwise."""
        return self.rotary_switch is not None and before <= self.rotary_switch < after

    def _device_reader(self) -> Read:
        """The same where onnxruntime copies to a device what is bound: the cache goes from step to step."""
        import onnxruntime as ort

        if self.rotary_switch is not None:
            raise InputError(
                f"{self.model_file}: its rotary factors change after {self.rotary_switch} tokens, which plain "
                "onnxruntime answers rightly on the CPU alone; ask for the provider cpu"
            )
        cache: Sequence[ort.OrtValue] = self._empty
        length = 0

        def read(
            ids: Sequence[int], past: int, until: int | None = None
        ) -> npt.NDArray[np.float32]:
            nonlocal cache, length
            if past < length:
                kept = [np.ascontiguousarray(value.numpy()[:, :, :past]) for value in cache]
                cache = [ort.OrtValue.ortvalue_from_numpy(value) for value in kept]
            logits, *cache = self._run(ids, cache, past, ["logits", *self._present])
            length = past + len(ids)
            found: npt.NDArray[np.float32] = as_float32(logits)[0]
            return found

        return read

    def _fed(
        self, ids: Sequence[int], past: int, until: int | None = None
    ) -> dict[str, ort.OrtValue]:
        """The inputs that say which tokens are read, and where. Raises InputError for ids that can't be."""
        import onnxruntime as ort

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
        return {
            name: ort.OrtValue.ortvalue_from_numpy(values[name][None].astype(_INT_TYPES[node.type]))
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
