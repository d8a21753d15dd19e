"""Many adapters on one device: what swapping, loading, adding and decoding with them costs.

    python benchmarks/adapters.py BUNDLE [--adapters 200] [--rank 16] [--merged OTHER_BUNDLE]

BUNDLE takes adapters (``adapters: hot-swap``). A copy of it is filled with random adapters of one rank on every
module it keeps open, through the same code as ``edgepeft adapters add``; the last addition is timed. Loading is
timed once with the adapters' files in the page cache and once after they were dropped from it. Decoding takes
turns between no adapter, one adapter and, with ``--merged``, a bundle without slots. Eight requests for eight
adapters are answered one after another by onnxruntime-genai, likewise by the batch runtime, and together. Printed
is one JSON object; bytes, seconds, tokens per second.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from safetensors.numpy import save_file

from edgepeft.hot_swap.store import add_adapter
from edgepeft.runtime import BatchRuntime, Bundle, Runtime
from edgepeft.runtime.adapters import BASE, open_adapter
from edgepeft.runtime.slots import slots_of

TOKENS = 64
ROWS = 8
PROMPT = "Tell me about the weather in the mountains."


def write_adapter(bundle: Bundle, folder: Path, rank: int, seed: int) -> None:
    """A random PEFT LoRA on every module of the bundle."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    tensors, names = {}, set()
    for module, (width, count) in slots_of(bundle).shapes.items():
        names.add(module.rpartition(".")[2])
        for half, shape in (("A", (rank, width)), ("B", (count, rank))):
            values = draw.standard_normal(shape, np.float32) * np.float32(0.01)
            tensors[f"base_model.model.{module}.lora_{half}.weight"] = values
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": sorted(names)}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def timed(work: Callable[[], Any]) -> float:
    """Seconds that one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def spread(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile, in milliseconds."""
    values = np.array(seconds) * 1e3
    return {
        "p50_ms": round(float(np.percentile(values, 50)), 3),
        "p99_ms": round(float(np.percentile(values, 99)), 3),
    }


def drop_from_cache(path: Path) -> None:
    """Have the system forget a file's pages, so that the next reader goes to the disk."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def swapping(bundle: Bundle, names: list[str]) -> dict[str, Any]:
    """Loading from disk and from memory, swapping once loaded, and resident memory of all adapters in use."""
    runtime = Runtime(bundle)
    process = psutil.Process()
    ids = list(range(100, 108))
    # The first answer allocates what later ones reuse.
    runtime.generate_ids(ids, max_new_tokens=1)
    before = process.memory_info().rss
    for name in names:
        drop_from_cache(open_adapter(bundle, name).factors)
    cold = [timed(lambda name=name: runtime.load_adapter(name)) for name in names]  # type: ignore[misc]
    # Every page of an adapter is read by the first answer it gives.
    first = [
        timed(lambda name=name: runtime.generate_ids(ids, max_new_tokens=1, adapter=name))  # type: ignore[misc]
        for name in names
    ]
    size = sum(open_adapter(bundle, name).bytes for name in names)
    memory = process.memory_info().rss - before
    again = [
        timed(lambda name=name: runtime.generate_ids(ids, max_new_tokens=1, adapter=name))  # type: ignore[misc]
        for name in names
    ]
    order = np.random.default_rng(0).permutation(np.tile(np.arange(len(names)), 5))
    swap = [timed(lambda at=at: runtime.swap_adapter(names[at])) for at in order]  # type: ignore[misc]
    warm = []
    for name in names:
        runtime.unload_adapter(name)
        warm.append(timed(lambda name=name: runtime.load_adapter(name)))  # type: ignore[misc]
    return {
        "swap_loaded": spread(swap),
        "load_cold": spread(cold),
        "load_warm": spread(warm),
        "cold_first_answer_beyond_later_ones": spread(
            [a - b for a, b in zip(first, again, strict=True)]
        ),
        "file_bytes": size,
        "resident_bytes_per_file_byte": round(memory / size, 4),
    }


def decoding(bundle: Bundle, name: str, merged: Path | None, rounds: int) -> dict[str, Any]:
    """Tokens per second with and without an adapter, taking turns; medians and their ratio."""
    runtime = Runtime(bundle)
    cases: dict[str, tuple[Runtime, str]] = {"none": (runtime, BASE), "one": (runtime, name)}
    if merged is not None:
        cases["without_slots"] = (Runtime(merged), BASE)
    found: dict[str, list[float]] = {case: [] for case in cases}
    ids = list(range(100, 116))
    for _ in range(rounds):
        for case, (subject, adapter) in cases.items():
            times: list[float] = []

            def note(answer: list[int], times: list[float] = times) -> bool:
                times.append(time.perf_counter())
                return False

            # Random adapters rarely end an answer; one that does is too short to count.
            subject.generate_ids(ids, max_new_tokens=TOKENS, stop_when=note, adapter=adapter)
            if len(times) > TOKENS // 2:
                found[case].append((len(times) - 1) / (times[-1] - times[0]))
    speeds = {case: round(statistics.median(values), 1) for case, values in found.items()}
    slower = {
        f"slower_than_{case}": round(1 - speeds["one"] / speeds[case], 3)
        for case in speeds
        if case != "one"
    }
    return {"tokens_per_second": speeds, **slower}


def mixing(bundle: Bundle, names: list[str]) -> dict[str, Any]:
    """Eight requests for eight adapters one after another and together, and whether the answers are the same."""
    single, batch = Runtime(bundle), BatchRuntime(bundle, rows=len(names))

    def ask(runtime: Runtime | BatchRuntime, name: str) -> list[int]:
        return runtime.complete(PROMPT, adapter=name, max_new_tokens=TOKENS).ids

    def one_by_one() -> list[list[int]]:
        return [ask(single, name) for name in names]

    def alone() -> list[list[int]]:
        return [ask(batch, name) for name in names]

    def together() -> list[list[int]]:
        with ThreadPoolExecutor(len(names)) as clients:
            return list(clients.map(lambda name: ask(batch, name), names))

    wanted, found, other = alone(), together(), one_by_one()
    same = sum(a == b for a, b in zip(wanted, found, strict=True))
    genai = sum(a == b for a, b in zip(other, found, strict=True))
    times = [[timed(way) for way in (one_by_one, alone, together)] for _ in range(3)]
    apart, lone, joined = (statistics.median(side) for side in zip(*times, strict=True))
    batch.close()
    return {
        "tokens": sum(map(len, found)),
        "widths": batch.widths,
        "one_after_another_seconds": round(apart, 3),
        "one_after_another_in_the_batch_seconds": round(lone, 3),
        "together_seconds": round(joined, 3),
        "faster": round(apart / joined, 2),
        "faster_than_alone_in_the_batch": round(lone / joined, 2),
        "same_as_alone": f"{same} of {len(names)}",
        "same_as_onnxruntime_genai": f"{genai} of {len(names)}",
    }


def main() -> None:
    """Fill a copy of the bundle and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--adapters", type=int, default=200)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--merged", type=Path)
    parser.add_argument("--parts", default="swapping,decoding,mixing", help="which to measure")
    parser.add_argument("--keep", type=Path, help="fill this folder, or use it as it was left")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch) / "bundle"
        found: dict[str, Any] = {"adapters": asked.adapters, "rank": asked.rank}
        if not folder.is_dir():
            shutil.copytree(asked.bundle, folder, ignore=shutil.ignore_patterns("adapters"))
        bundle = Bundle.open(folder, check="sizes")
        runtime_names = [f"customer-{index:04}" for index in range(asked.adapters)]
        times = []
        for index, name in enumerate([*runtime_names, "last"]):
            if (folder / "adapters" / name).is_dir():
                continue
            write_adapter(bundle, Path(scratch) / "peft", asked.rank, index)
            times.append(timed(lambda name=name: add_adapter(bundle, name, Path(scratch) / "peft")))  # type: ignore[misc]
        if times:
            found["add_last_seconds"] = round(times[-1], 3)
        parts = asked.parts.split(",")
        if "swapping" in parts:
            found["swapping"] = swapping(bundle, runtime_names)
        if "decoding" in parts:
            found["decoding"] = decoding(bundle, runtime_names[0], asked.merged, asked.rounds)
        if "mixing" in parts:
            found["mixing"] = mixing(bundle, runtime_names[:ROWS])
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
