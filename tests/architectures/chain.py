"""The cases of the matrix, each from a model to measured bundles: ``python -m tests.architectures.chain FOLDER
0/2``.

The last argument says which share of the cases is carried. Each leaves ``result.json`` in its folder, or what it
raised in ``error.txt``. The graph builder changes ``sys.path`` and prints, so no test imports it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgepeft.adapters.method import Grid
from edgepeft.adapters.provenance import TrainingGrid
from edgepeft.evaluation.witness import stage as witness_stage
from edgepeft.evaluation.witness.check import bundle_facts, difference, graph_logits, held
from edgepeft.evaluation.witness.models import Sources, load_adapted
from edgepeft.evaluation.witness.stage import WitnessRecord, own_logits
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.decoder_session import GraphSession
from tests.architectures.cases import CHOSEN, LONGEST, Case, write_case
from tests.quantize_settings import UNSAID
from tests.simulation import put_codes
from tests.stages import carry_cases, run_stage, write_adapter
from tests.tiny import write_tiny_data

SHORT = 24
DATA: dict[str, Any] = {
    "shape": "auto",
    "columns": {},
    "system": None,
    "template": "auto",
    "max_test_rows": 4,
}
IDS = torch.randint(5, 400, (LONGEST,), generator=torch.Generator().manual_seed(0)).tolist()


def carry(case: Case, root: Path) -> None:
    """One case: its float bundle beside torch and the second witness, its integer bundle beside the latter."""
    from edgepeft.checkpoints import base as base_stage
    from edgepeft.models import inspect_model
    from edgepeft_exporters.decoder import EXPORTER

    model = write_case(case, root / "model")
    refused = EXPORTER.refuses(inspect_model(model))
    if refused is not None:
        raise ValueError(refused)
    # Half of the cases have their base on a grid, half have not.
    grid: Grid = "nf4" if len(root.name) % 2 else "none"
    merge = {"base": "dequantized", "grid": grid}
    base = run_stage(base_stage.run, root / "base", {}, {"model": model})
    inputs = {"base": base, "adapter": write_adapter(model, root / "adapter")}
    _, test = write_tiny_data(root / "data", rows=16)
    generic = root / "generic.txt"
    generic.write_text("The quick brown fox jumps over the lazy dog while the sun sets. " * 8)
    witness = run_stage(
        witness_stage.run,
        root / "witness",
        {"merge": merge, "data": DATA},
        {**inputs, "model": model, "test": test, "generic": generic},
    )
    testimony = WitnessRecord.open(witness)
    plain = export(case, root, merge, inputs, "cpu-fp32")
    rounded = export(case, root, merge, inputs, "cpu-int4")
    kept = TrainingGrid(kind=grid).as_dict()
    sources = Sources(model, root / "adapter", False, "dequantized", kept, None)
    result = {
        **bundle_facts(plain, testimony).as_dict(),
        "runtimes": plain.runtimes,
        "torch": beside_torch(plain, model, root / "adapter") if grid == "none" else None,
        "rounded": beside_codes(rounded, root / "quantize-cpu-int4", testimony, sources),
        "int4": held(testimony, graph_logits(GraphSession(rounded, threads=1), ())).kl,
        "spread": float(testimony.logits[-1].std()),
    }
    (root / "result.json").write_text(json.dumps(result))


def export(case: Case, root: Path, merge: dict[str, Any], inputs: Any, target: str) -> Bundle:
    """The bundle of a case for a target, at accuracy level 0."""
    from edgepeft.quantization import stage as quantize_stage
    from edgepeft.targets import find_target
    from edgepeft_exporters.decoder import stage as export_stage

    profile = find_target(target)
    if profile.bits:
        chosen = {**UNSAID, "algorithm": "rtn"}
        settings = {"merge": merge, "quantize": chosen, "bits": profile.bits}
        folder = run_stage(quantize_stage.run, root / f"quantize-{target}", settings, inputs)
        inputs = {**inputs, "quantize": folder}
    settings = {
        "merge": merge,
        "target": profile.as_dict(),
        "accuracy_level": 0,
        "template": "auto",
        "base_name": case.family,
        "layout": "all",
    }
    folder = run_stage(export_stage.run, root / target, settings, inputs, kind="bundle")
    return Bundle.open(folder, check="sizes")


def beside_torch(bundle: Bundle, model: Path, adapter: Path) -> list[float]:
    """The largest difference of a logit from the unmerged model in torch, of a short and of a long text."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    wrapped = PeftModel.from_pretrained(base, adapter).eval()
    session = GraphSession(bundle, threads=1)
    found = []
    for length in (SHORT, LONGEST):
        with torch.no_grad():
            wanted = wrapped(torch.tensor([IDS[:length]])).logits[0].numpy()
        found.append(float(np.abs(session.logits(IDS[:length]) - wanted).max()))
    return found


def beside_codes(bundle: Bundle, codes: Path, testimony: WitnessRecord, sources: Sources) -> float:
    """The largest difference of a logit from PEFT's merged model in torch with the values of the codes."""
    model = put_codes(load_adapted(sources).merge_and_unload(), codes)
    logits_at = graph_logits(GraphSession(bundle, threads=1), ())
    return max(difference(own_logits(model, one), logits_at(one)) for one in testimony.statements)


if __name__ == "__main__":
    part, parts = map(int, sys.argv[2].split("/"))
    chosen = dict(list(CHOSEN.items())[part::parts])
    carry_cases(carry, chosen, Path(sys.argv[1]))
