"""One measurement of one bundle, in a process of its own: ``python -m edgepeft.benchmark.measure JSON``.

Two models in one process slow each other by a tenth, and peak memory is the process's, so nothing is measured
twice in one. Prints one JSON object: the measures, or ``error`` and ``status``.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgepeft.benchmark.gguf_model import GgufModel
from edgepeft.models.tasks import GENERATION
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.child_process import answer_parent
from edgepeft.runtime.encoder import EncoderSession
from edgepeft.runtime.engine import load_model
from edgepeft.runtime.kv_cache import Caches
from edgepeft.runtime.providers import provider_name
from edgepeft.runtime.search_options import GREEDY
from edgepeft.utils import nvidia
from edgepeft.utils.memory import peak_memory_bytes
from edgepeft.utils.threads import chosen_threads


def measure(
    folder: Path,
    *,
    prompt_tokens: list[int],
    new_tokens: int,
    provider: str | None,
    threads: int | None,
    gguf: Path | None = None,
) -> dict[str, Any]:
    """Load a bundle, or in its place llama.cpp on ``gguf``, a file of the same vocabulary, and time it.

    Returns ``threads`` that it computed with, ``load_seconds``, ``peak_memory_bytes`` (largest resident set),
    ``device_memory_bytes`` (what an NVIDIA driver says this process holds, None where there is none), and under
    ``lengths`` for each number of prompt tokens ``first_token_seconds`` (reading the prompt until the first
    token is there), ``prefill_tokens_per_second`` and ``decode_tokens_per_second`` over ``new_tokens``; of a
    bundle that generates no text, ``text_seconds`` (the median of one text after another) and
    ``tokens_per_second``. Raises as the runtime does.
    """
    bundle = Bundle.open(folder, check="sizes")
    if bundle.task == GENERATION:
        timed = _time_answers(bundle, prompt_tokens, new_tokens, provider, threads, gguf)
    else:
        timed = _time_texts(bundle, prompt_tokens, provider, threads)
    return {
        **timed,
        "threads": chosen_threads(threads),
        "peak_memory_bytes": peak_memory_bytes(),
        "device_memory_bytes": _device_memory(),
    }


def _time_answers(
    bundle: Bundle,
    prompt_tokens: list[int],
    new_tokens: int,
    provider: str | None,
    threads: int | None,
    gguf: Path | None,
) -> dict[str, Any]:
    started = time.perf_counter()
    if gguf is not None:
        decode, device = _by_llama_cpp(gguf, max(prompt_tokens) + new_tokens, threads), "CPU"
    else:
        model = load_model(bundle, {0}, threads=threads, provider=provider)
        decode, device = _by_runtime(Caches(model, bundle.context_length)), str(model.device_type)
    load_seconds = time.perf_counter() - started
    # The first answer allocates what later ones reuse.
    _timed(decode, bundle, min(prompt_tokens), 4)
    lengths = {}
    for length in prompt_tokens:
        first, rest = _timed(decode, bundle, length, new_tokens)
        lengths[length] = {
            "first_token_seconds": first,
            "prefill_tokens_per_second": length / first,
            "decode_tokens_per_second": (new_tokens - 1) / rest,
        }
    return {"load_seconds": load_seconds, "device": device, "lengths": lengths}


def _time_texts(
    bundle: Bundle, prompt_tokens: list[int], provider: str | None, threads: int | None
) -> dict[str, Any]:
    started = time.perf_counter()
    providers = None if provider is None else [provider_name(provider)]
    session = EncoderSession(bundle, threads=threads, providers=providers)
    load_seconds = time.perf_counter() - started
    lengths = {}
    for length in prompt_tokens:
        ids = _any_ids(bundle, length)
        session.run(ids)  # the first text of a length allocates what later ones reuse
        times: list[float] = []
        while sum(times) < _TEXT_SECONDS or len(times) < _TEXTS:
            started = time.perf_counter()
            session.run(ids)
            times.append(time.perf_counter() - started)
        middle = statistics.median(times)
        lengths[length] = {"text_seconds": middle, "tokens_per_second": length / middle}
    device = session.provider.removesuffix("ExecutionProvider")
    return {"load_seconds": load_seconds, "device": device, "lengths": lengths}


_TEXT_SECONDS = 0.5
_TEXTS = 5
"""Texts of one length are read for so long, and so many at least."""

Decode = Callable[[list[int], int], Iterator[int]]
"""Yields so many greedy tokens after a prompt."""


def _timed(decode: Decode, bundle: Bundle, length: int, new_tokens: int) -> tuple[float, float]:
    """Seconds to the first token after a prompt of ``length`` ids, and from there to the last."""
    ids = _any_ids(bundle, length)
    started = time.perf_counter()
    tokens = decode(ids, new_tokens)
    next(tokens)
    first = time.perf_counter()
    for _ in tokens:
        pass
    return first - started, time.perf_counter() - first


def _any_ids(bundle: Bundle, length: int) -> list[int]:
    ids: list[int] = np.random.default_rng(length).integers(3, bundle.vocab_size, length).tolist()
    return ids


def _by_runtime(caches: Caches) -> Decode:
    def decode(ids: list[int], new_tokens: int) -> Iterator[int]:
        capacity = len(ids) + new_tokens
        # Without a least length a stop token would end the answer before it was timed.
        generator = caches.fresh(ids, capacity, {**GREEDY, "min_length": capacity}).generator
        for _ in range(new_tokens):
            generator.generate_next_token()
            yield int(generator.get_next_tokens()[0])

    return decode


def _by_llama_cpp(file: Path, capacity: int, threads: int | None) -> Decode:
    model = GgufModel(file, capacity=capacity, threads=threads)

    def decode(ids: list[int], new_tokens: int) -> Iterator[int]:
        past, unread = 0, ids
        for _ in range(new_tokens):
            token = int(model.read(unread, past)[0].argmax())
            yield token
            past, unread = past + len(unread), [token]

    return decode


def _device_memory() -> int | None:
    for pid, used in nvidia.query("compute-apps", "pid", "used_memory"):
        mebibytes = used.removesuffix(" MiB")
        if pid == str(os.getpid()) and mebibytes.isdigit():
            return int(mebibytes) * 2**20
    return None


def main() -> None:
    """Measure what the argument says and print it."""

    def work(asked: dict[str, Any]) -> dict[str, Any]:
        gguf = asked.pop("gguf")
        return measure(Path(asked.pop("folder")), gguf=Path(gguf) if gguf else None, **asked)

    def who(asked: dict[str, Any]) -> str:
        gguf = asked["gguf"]
        return f"llama.cpp on {gguf}" if gguf else f"onnxruntime on {asked['folder']}"

    answer_parent(work, who)


if __name__ == "__main__":
    main()
