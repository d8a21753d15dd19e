"""Bundles with planted faults, each to its measures: ``python -m tests.evaluation.chain FOLDER``.

In a process of its own, as the graph builder changes ``sys.path`` and prints.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgepeft.checkpoints import base as base_stage
from edgepeft.evaluation import reference as reference_stage
from edgepeft.evaluation import verify as verify_stage
from edgepeft.evaluation.witness import float_graph, stage
from edgepeft.runs.folder import MANIFEST
from edgepeft.targets import find_target
from tests.architectures.cases import CASES, write_case
from tests.evaluation.faulty import FAULTS
from tests.stages import carry_cases, run_stage, write_adapter
from tests.tiny import write_tiny_data

DATA: dict[str, Any] = {
    "shape": "auto",
    "columns": {},
    "system": None,
    "template": "auto",
    "max_test_rows": 6,
}
SWITCH, HEAD = "switch", "head"


class Faulty:
    """The exporter of these chains."""

    stage = "tests.evaluation.faulty:exporting"


@dataclass(frozen=True)
class Planted:
    """A model of the architecture matrix, and what is wrong with its bundle or its reference."""

    model: str = "llama"
    fault: str = ""
    grid: str = "nf4"


PLANTED = {
    "sound": Planted(),
    "sound-full-precision": Planted("gemma2", grid="none"),
    **{f"llama-{fault}": Planted(fault=fault) for fault in FAULTS},
    # A prompt that is read in pieces as if rotary factors never changed.
    "unseen-switch": Planted("phi3-long", SWITCH),
    # A state that no piece hands to the next: seen by engines that read token by token.
    "lost-state": Planted("lfm2", "state"),
    # The embedding taken for the head, which the checkpoint has of its own.
    "wrong-head": Planted("llama-own-head", HEAD),
}


def carry(case: Planted, root: Path) -> None:
    """One case: the float form of a graph as its stage sees it, and a float bundle's own verification."""
    model = write_case(CASES[case.model], root / "model")
    base = run_stage(base_stage.run, root / "base", {}, {"model": model})
    adapter = write_adapter(model, root / "adapter")
    _, test = write_tiny_data(root / "data", rows=24)
    generic = root / "generic.txt"
    generic.write_text("The quick brown fox jumps over the lazy dog while the sun sets. " * 8)
    inputs = {"base": base, "adapter": adapter}
    asked = {**inputs, "model": model, "test": test, "generic": generic}
    merge = {"base": "dequantized", "grid": case.grid}
    measured = {"merge": merge, "data": DATA}
    witness = run_stage(stage.run, root / "witness", measured, asked)
    reference = run_stage(reference_stage.run, root / "reference", measured, asked)
    settings = {
        "merge": merge,
        "target": find_target("cpu-fp32").as_dict(),
        "accuracy_level": 0,
        "template": "auto",
        "base_name": case.fault,
        "layout": "all",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(float_graph, "find_exporter", lambda name: Faulty)
        run_stage(
            float_graph.run,
            root / "float-graph",
            {"exporter": "faulty", "export": settings},
            {"witness": witness, **{f"export/{key}": path for key, path in inputs.items()}},
        )
    from tests.evaluation.faulty import exporting

    bundle = run_stage(exporting, root / "bundle", settings, inputs, kind="bundle")
    if case.fault == SWITCH:
        manifest = json.loads((bundle / MANIFEST).read_text())
        del manifest["result"]["rotary_switch"]
        (bundle / MANIFEST).write_text(json.dumps(manifest))
    if case.fault == HEAD:
        path = reference / reference_stage.PROBES
        record: dict[str, Any] = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "head": record["embedding"]}))
    run_stage(
        verify_stage.run,
        root / "verify",
        {"execution": {"wanted": "CPUExecutionProvider", "provider": "CPUExecutionProvider"}},
        {"base": base, "witness": witness, "reference": reference, "bundle": bundle},
    )


if __name__ == "__main__":
    carry_cases(carry, PLANTED, Path(sys.argv[1]))
