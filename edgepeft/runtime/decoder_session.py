"""The graph that ships, run by plain onnxruntime: logits of every position, and greedy decoding.

The verifier measures with it, and it answers where onnxruntime-genai is not installed. One sequence at
a time, but for ``stepper``, which takes a step of many.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from edgepeft.errors import EdgepeftError, InputError, one_line
from edgepeft.runtime.cache_states import CacheStates
from edgepeft.runtime.decoder_graph import DecoderGraph
from edgepeft.runtime.devices import CPU
from edgepeft.runtime.sessions import as_float32, run_bound

if TYPE_CHECKING:
    import onnxruntime as ort


class Read(Protocol):
    """Reads token ids after ``past`` cached ones, of ``until`` in the end: logits float32 [ids, vocabulary]."""

    def __call__(
        self, ids: Sequence[int], past: int, until: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Raises as ``GraphSession.logits``."""
        ...


@dataclass(frozen=True)
class CacheReader:
    """A ``Read`` with a cache of its own; ``kept`` says how many of the first so many tokens it still has."""

    read: Read
    kept: Callable[[int], int]

    def __call__(
        self, ids: Sequence[int], past: int, until: int | None = None
    ) -> npt.NDArray[np.float32]:
        """As ``Read``; ``past`` must be ``kept``."""
        return self.read(ids, past, until)


Step = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.float32]]
"""One token more for each row: the newest tokens and the lengths before them, int64 [rows], to logits float32
[rows, vocabulary].
"""


class GraphSession(DecoderGraph):
    """The ways to decode with a graph; opened as ``DecoderGraph`` says."""

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

    def read(
        self,
        ids: Sequence[int],
        cache: Sequence[ort.OrtValue] | None,
        past: int,
        factors: Mapping[str, ort.OrtValue],
    ) -> tuple[npt.NDArray[np.float32], list[ort.OrtValue]]:
        """Read ``ids`` after the ``past`` tokens of a cache (None: no tokens).

        Returns logits float32 [vocabulary] after the last of them, and the cache brought up to them, a tensor of
        the graph's type for each of ``cache_tensors``. ``factors`` are an adapter's inputs. Raises as ``logits``.
        """
        wanted = ["logits", *self._present]
        logits, *grown = self._run(ids, cache or self._empty, past, wanted, factors)
        return as_float32(logits)[0, -1], grown

    def stepper(
        self, cache: Mapping[str, ort.OrtValue], factors: Mapping[str, ort.OrtValue]
    ) -> Step:
        """A function from each row's newest token and its length so far, int64 [rows], to each row's logits,
        float32 [rows, vocabulary].

        ``cache`` has a tensor of so many rows for each of ``cache_tensors`` and is written in place; ``factors``
        have a row for each of the cache's.
        """

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
            for name, value in self._typed(values).items():
                binding.bind_ortvalue_input(name, value)
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

    def reader(
        self, capacity: int, factors: Mapping[str, ort.OrtValue] | None = None
    ) -> CacheReader:
        """A function that reads ids after so many cached tokens: their logits, float32 [ids, vocabulary].

        ``factors`` are an adapter's inputs, by default those that the graph was opened with. It has a cache of
        its own for ``capacity`` tokens, of which those behind what is read are forgotten. Where rotary factors
        switch, it is also told how many tokens there are in the end. Raises InputError for such a graph on
        another provider than the CPU.
        """
        inputs = self._adapter.inputs if factors is None else factors
        if self.provider != CPU:
            return self._device_reader(inputs)
        cache = self.new_cache(1, capacity)
        binding = self._session.io_binding()
        for name, factor in inputs.items():
            binding.bind_ortvalue_input(name, factor)
        for past, present in zip(self._past, self._present, strict=True):
            binding.bind_ortvalue_input(past, cache[past][1])
            binding.bind_ortvalue_output(present, cache[past][1])
        arrays = [cache[one.name][0] for one in self.cache_tensors if not one.grows]
        states = CacheStates(self.model_file, arrays)

        def read(
            ids: Sequence[int], past: int, until: int | None = None
        ) -> npt.NDArray[np.float32]:
            states.begin(past, len(ids))
            for name, value in self._fed(ids, past, until).items():
                binding.bind_ortvalue_input(name, value)
            # Bound anew each time, for its length is that of ids.
            binding.bind_output("logits")
            run_bound(self._session, self.model_file, binding, len(ids))
            logits: npt.NDArray[np.float32] = as_float32(binding.get_outputs()[-1])[0]
            return logits

        return CacheReader(read, states.kept)

    def in_pieces(self, ids: Sequence[int], at_once: int) -> Iterator[npt.NDArray[np.float32]]:
        """Logits after each of ``ids``, float32 [at most ``at_once``, vocabulary] at a time, read through one
        cache. Raises as ``logits`` and ``reader``.
        """
        read = self.reader(len(ids))
        for start in range(0, len(ids), at_once):
            yield read(ids[start : start + at_once], start, len(ids))

    def _device_reader(self, factors: Mapping[str, ort.OrtValue]) -> CacheReader:
        """The same where onnxruntime copies to a device what is bound: the cache goes from step to step."""
        import onnxruntime as ort

        if self.rotary_switch is not None:
            raise InputError(
                f"{self.model_file}: its rotary factors change after {self.rotary_switch} tokens, which plain "
                "onnxruntime answers rightly on the CPU alone; ask for the provider cpu"
            )
        cache: Sequence[ort.OrtValue] = self._empty
        before, length = cache, 0
        grow = [one.grows for one in self.cache_tensors]
        states = CacheStates(self.model_file, (), keeps=not all(grow))

        def first(value: ort.OrtValue, past: int) -> ort.OrtValue:
            return ort.OrtValue.ortvalue_from_numpy(
                np.ascontiguousarray(value.numpy()[:, :, :past])
            )

        def read(
            ids: Sequence[int], past: int, until: int | None = None
        ) -> npt.NDArray[np.float32]:
            nonlocal cache, before, length
            states.begin(past, len(ids))
            if past == 0:
                cache = self._empty
            elif past < length:
                both = zip(cache, before, grow, strict=True)
                cache = [first(now, past) if grows else then for now, then, grows in both]
            before = cache
            wanted = ["logits", *self._present]
            logits, *cache = self._run(ids, cache, past, wanted, factors)
            length = past + len(ids)
            found: npt.NDArray[np.float32] = as_float32(logits)[0]
            return found

        return CacheReader(read, states.kept)
