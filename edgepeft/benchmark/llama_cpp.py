"""llama.cpp beside bundles: the merged weights of their runs as files at Q4_K_M.

``python -m edgepeft.benchmark.llama_cpp JSON`` writes one, in a process of its own: a llama.cpp that was built
for another processor dies as soon as it computes.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgepeft.benchmark.gguf_model import FORM, quantize_gguf
from edgepeft.errors import InputError, MissingError
from edgepeft.runtime.child_process import answer_parent, run_in_child


def gguf_of_runs(
    bundles: Sequence[Path], scratch: Path, say: Callable[[str], None]
) -> dict[Path, Path]:
    """Write a file for each run that the bundles lie in; the first bundle of each run to its file.

    ``scratch`` takes the weights of one run in float32 besides. Raises MissingError without llama-cpp-python,
    InputError where a run has no merged checkpoint or its model is not written as GGUF.
    """
    if importlib.util.find_spec("llama_cpp") is None:
        raise MissingError("needs llama-cpp-python: pip install llama-cpp-python")
    merged = {bundle: merged_of(bundle) for bundle in bundles}
    written: dict[Path, Path] = {}
    for bundle, checkpoint in merged.items():
        if checkpoint in [merged[other] for other in written]:
            continue
        folder = scratch / str(len(written))
        folder.mkdir()
        file = folder / f"{bundle.resolve().parents[1].name}-{FORM}.gguf"
        say(f"writing {checkpoint} at {FORM} for llama.cpp")
        written[bundle] = quantized_gguf(checkpoint, file)
    return written


def merged_of(bundle: Path) -> Path:
    """The merged checkpoint of the run that a bundle lies in. Raises InputError."""
    try:
        record = bundle.resolve().parents[1] / "run.json"
        merged = json.loads(record.read_text(encoding="utf-8"))["result"]["merged"]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        merged = None
    if merged is None or not Path(merged).is_dir():
        raise InputError(
            f"{bundle}: --llama-cpp needs the merged checkpoint of its run; give the bundle in the run's folder "
            "(runs/NAME/bundles/TARGET), built with merge.save"
        )
    return Path(merged)


def quantized_gguf(checkpoint: Path, out: Path) -> Path:
    """Write a checkpoint at Q4_K_M into ``out`` and return that.

    Raises as ``gguf_of_runs``, EdgepeftError where llama.cpp fails or dies.
    """
    asked = {"checkpoint": str(checkpoint), "out": str(out)}
    run_in_child("edgepeft.benchmark.llama_cpp", asked, _who(asked))
    return out


def _who(asked: dict[str, Any]) -> str:
    return f"llama.cpp, quantizing {asked['checkpoint']}"


def _write(asked: dict[str, Any]) -> dict[str, Any]:
    from edgepeft.checkpoints.gguf_export import write_gguf

    out = Path(asked["out"])
    whole = out.with_suffix(".f32.gguf")
    try:
        write_gguf(Path(asked["checkpoint"]), whole)
        quantize_gguf(whole, out)
    finally:
        whole.unlink(missing_ok=True)
    return {"file": str(out)}


if __name__ == "__main__":
    answer_parent(_write, _who)
