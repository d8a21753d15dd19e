"""Bundles timed side by side: each measurement in a fresh process, the bundles taking turns, medians compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.benchmark.gguf_model import FORM
from edgepeft.errors import InputError
from edgepeft.models.tasks import GENERATION
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.child_process import run_in_child
from edgepeft.utils.threads import chosen_threads


@dataclass(frozen=True)
class Case:
    """A bundle on a provider; None is the one it was built for. With ``gguf``, llama.cpp on that file instead."""

    folder: Path
    provider: str | None
    gguf: Path | None = None

    @property
    def name(self) -> str:
        """What is measured: which runtime on which files."""
        return f"llama.cpp on {self.gguf}" if self.gguf else f"onnxruntime on {self.folder}"


def bench(
    cases: Sequence[Case],
    *,
    prompt_tokens: Sequence[int],
    new_tokens: int,
    rounds: int,
    threads: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure every case ``rounds`` times in alternating order.

    Returns ``memory_bandwidth`` (bytes a second, as measured here), ``threads`` that every case computed with,
    and ``cases``, each with the medians of its measures per prompt length, the ``weight_bytes`` a token reads,
    and, where it generates text, ``bandwidth_share``: decoding speed times those bytes over the bandwidth, 1
    where memory is the limit. The embedding is counted with the weights, though only a tied one is read whole.
    Raises InputError, MissingError and EdgepeftError as the runtime does.
    """
    if new_tokens < 2 or min(prompt_tokens) < 1 or rounds < 1:
        raise InputError(
            "bench: needs 2 or more new tokens, and 1 or more prompt tokens and rounds"
        )
    bundles = [Bundle.open(case.folder) for case in cases]
    for bundle in bundles:
        _check_room(bundle, max(prompt_tokens), new_tokens)
    threads = chosen_threads(threads)
    bandwidth = memory_bandwidth(threads)
    runs: list[list[dict[str, Any]]] = [[] for _ in cases]
    for number in range(rounds):
        # Who goes first changes, so that a machine that warms up or slows down favours nobody.
        order = range(len(cases)) if number % 2 == 0 else reversed(range(len(cases)))
        for index in order:
            say(f"round {number + 1} of {rounds}: {cases[index].name}")
            runs[index].append(_alone(cases[index], list(prompt_tokens), new_tokens, threads))
    return {
        "memory_bandwidth": bandwidth,
        "threads": threads,
        "new_tokens": new_tokens,
        "rounds": rounds,
        "cases": [
            _summary(case, bundle, found, prompt_tokens, bandwidth)
            for case, bundle, found in zip(cases, bundles, runs, strict=True)
        ],
    }


def _check_room(bundle: Bundle, longest: int, new_tokens: int) -> None:
    generates = bundle.task == GENERATION
    if longest + (new_tokens if generates else 0) > bundle.context_length:
        asked = (
            f"{longest} prompt and {new_tokens} new tokens" if generates else f"{longest} tokens"
        )
        raise InputError(
            f"{bundle.path}: {asked} do not fit into its context of {bundle.context_length}"
        )


def _alone(case: Case, prompt_tokens: list[int], new_tokens: int, threads: int) -> dict[str, Any]:
    """One measurement in a process of its own."""
    asked = {
        "folder": str(case.folder),
        "gguf": None if case.gguf is None else str(case.gguf),
        "provider": case.provider,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "threads": threads,
    }
    return run_in_child("edgepeft.benchmark.measure", asked, case.name)


def _summary(
    case: Case,
    bundle: Bundle,
    runs: list[dict[str, Any]],
    prompt_tokens: Sequence[int],
    bandwidth: float,
) -> dict[str, Any]:
    files = [case.gguf] if case.gguf else list(bundle.model_file.parent.iterdir())
    weights = sum(path.stat().st_size for path in files)

    def median(read: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(read(run) for run in runs)

    lengths = []
    for length in prompt_tokens:
        measured = [run["lengths"][str(length)] for run in runs]
        figures = {name: statistics.median(one[name] for one in measured) for name in measured[0]}
        if bundle.task == GENERATION:
            speed = figures["decode_tokens_per_second"]
            figures["bandwidth_share"] = speed * weights / bandwidth
        lengths.append({"prompt_tokens": length, **figures})
    return {
        "path": str(case.gguf or bundle.path),
        "task": bundle.task,
        "target": FORM if case.gguf else bundle.target,
        "provider": "llama.cpp" if case.gguf else case.provider or bundle.provider,
        "device": runs[0]["device"],
        "threads": runs[0]["threads"],
        "bytes": weights
        if case.gguf
        else sum(path.stat().st_size for path in bundle.path.rglob("*") if path.is_file()),
        "weight_bytes": weights,
        "device_memory_bytes": runs[0]["device_memory_bytes"],
        "load_seconds": median(lambda run: run["load_seconds"]),
        "peak_memory_bytes": median(lambda run: run["peak_memory_bytes"]),
        "lengths": lengths,
    }


def memory_bandwidth(threads: int | None = None) -> float:
    """Bytes a second that this machine's cores read from memory together: the best of several passes.

    The largest number of each core's own 128 MiB, far beyond any cache and cheap beside the reading.
    """
    import numpy as np

    count = chosen_threads(threads)
    blocks = [np.ones(2**25, np.float32) for _ in range(count)]
    best = float("inf")
    with ThreadPoolExecutor(count) as pool:
        for _ in range(7):
            started = time.perf_counter()
            list(pool.map(np.max, blocks))
            best = min(best, time.perf_counter() - started)
    return sum(block.nbytes for block in blocks) / best
