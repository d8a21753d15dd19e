"""Carrying out one stage: from its inputs to a finished folder with its manifest, in whatever process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edgepeft import __version__
from edgepeft.checkpoints.base_stage import base_facts
from edgepeft.events import Sink
from edgepeft.pipeline.kinds.registry import all_kinds
from edgepeft.runs.folder import is_finished, publish, read_manifest
from edgepeft.stages.job import Stage
from edgepeft.stages.pool import Workers
from edgepeft.utils.extras import installed_versions
from edgepeft.utils.whole_files import staged_folder

if TYPE_CHECKING:
    from edgepeft.pipeline.plan import Plan

_LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxruntime-genai",
    "safetensors",
    "tokenizers",
)


@dataclass(frozen=True)
class Order:
    """A stage with all that carrying it out takes; it can be sent to another process.

    ``inputs`` are finished folders and files by name, ``digests`` what stands for the content of each, ``log``
    is where the libraries' talk goes.
    """

    stage: Stage
    inputs: Mapping[str, Path]
    digests: Mapping[str, str]
    log: Path
    seed: int


def order_of(plan: Plan, stage: Stage, log: Path | None = None) -> Order:
    """The order for a stage of a plan; its log is named after it by default."""
    sources = {name: plan.stage(source) for name, source in stage.inputs.items()}
    return Order(
        stage=stage,
        inputs={
            **{name: source.final for name, source in sources.items()},
            **{name: path for name, (path, _) in stage.files.items()},
        },
        digests={
            **{name: source.key for name, source in sources.items()},
            **{name: digest for name, (_, digest) in stage.files.items()},
        },
        log=log or plan.run.logs / f"{stage.name}.log",
        seed=plan.resolved.recipe.training.seed,
    )


def is_done(stage: Stage) -> bool:
    """Whether a stage's output is there, whole, and of any use."""
    if not is_finished(stage.final, stage.key):
        return False
    if stage.kind != "base":
        return True
    # A base made from a model folder names that folder; the folder may have moved since.
    weights = Path(base_facts(stage.final).weights)
    return not weights.is_absolute() or weights.is_dir()


def peak_memory(stage: Stage) -> int:
    """Bytes of memory that a finished stage took at its peak, 0 where that is not known."""
    return int((read_manifest(stage.final) or {}).get("peak_memory_bytes", 0))


def carry_out(order: Order, workers: Workers, sink: Sink) -> None:
    """Run a stage and publish what it made. Raises what ``Workers.run`` raises, and what writing does."""
    stage = order.stage
    sink({"event": "started", "stage": stage.name})
    try:
        with staged_folder(stage.final) as staged:
            ended = workers.run(stage, dict(order.inputs), staged, order.log, sink)
            manifest = {
                "kind": all_kinds()[stage.kind].writes,
                "stage": stage.name,
                "key": stage.key,
                "edgepeft": __version__,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(ended["seconds"], 2),
                "peak_memory_bytes": ended["peak_memory_bytes"],
                "seed": order.seed,
                "settings": stage.settings.model_dump(mode="json"),
                "inputs": dict(order.digests),
                "versions": installed_versions(_LIBRARIES),
                "result": ended["result"],
            }
            publish(staged, stage.final, manifest)
    except BaseException as error:
        sink({"event": "failed", "stage": stage.name, "error": str(error)})
        raise
    sink(
        {
            "event": "finished",
            "stage": stage.name,
            "seconds": round(ended["seconds"], 2),
            "metrics": {"peak_memory_bytes": ended["peak_memory_bytes"]},
        }
    )
