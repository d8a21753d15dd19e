"""Reference and verification around exported bundles: what they say is what torch says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from edgepeft.errors import EdgepeftError
from edgepeft.evaluation import reference as reference_stage
from edgepeft.evaluation import verify as verify_stage
from edgepeft.evaluation.execution import choose_execution
from edgepeft.evaluation.reference_record import Reference
from edgepeft.runtime import GraphSession, pieces
from edgepeft.targets import find_target
from tests.stages import Find, run_stage
from tests.tiny import write_tiny_data

DATA: dict[str, Any] = {
    "shape": "auto",
    "columns": {},
    "system": None,
    "template": "auto",
    "max_test_rows": 4,
}


@pytest.fixture(scope="module", params=["llama", "gemma2"])
def measured(
    request: Any, built: Find, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Path]:
    """A case, its finished reference stage and a folder to verify in."""
    root = tmp_path_factory.mktemp("verified")
    _, test = write_tiny_data(root, rows=16)
    generic = root / "generic.txt"
    generic.write_text("The quick brown fox jumps over the lazy dog. " * 6)
    inputs = {"base": built(request.param, "base"), "adapter": built(request.param, "adapter")}
    settings = {"merge": {"base": "dequantized", "grid": "nf4"}, "data": DATA}
    folder = run_stage(
        reference_stage.run,
        root / "reference",
        settings,
        {**inputs, "test": test, "generic": generic},
    )
    return request.param, folder, root


def verify(built: Find, measured: tuple[str, Path, Path], target: str) -> dict[str, Any]:
    case, reference, root = measured
    inputs = {
        "bundle": built(case, target),
        "reference": reference,
        "base": built(case, "base"),
    }
    profile = find_target(target)
    chosen = choose_execution(profile.provider, profile.io_dtype)
    settings = {"execution": chosen.as_dict()}
    folder = run_stage(verify_stage.run, root / f"verify-{target}", settings, inputs)
    found: dict[str, Any] = json.loads((folder / "measures.json").read_text())
    assert json.loads((folder / "edgepeft.json").read_text())["result"] == found
    return found


def test_an_unrounded_bundle_is_the_reference(
    built: Find, measured: tuple[str, Path, Path]
) -> None:
    found = verify(built, measured, "cpu-fp32")
    assert 0 <= found["task_kl"] < 1e-6
    assert 0 <= found["generic_kl"] < 1e-6
    assert found["top1_agreement"] == found["generic_top1_agreement"] == 1
    assert found["task_loss"] == pytest.approx(found["reference_task_loss"], abs=1e-5)
    assert found["exact_match"] == found["reference_exact_match"]
    assert found["generic_perplexity"] == pytest.approx(
        found["reference_generic_perplexity"], rel=1e-5
    )
    # The adapter is random, so it may well have made things worse; then nothing was gained.
    assert found["recovery"] is None or found["recovery"] == pytest.approx(1, abs=1e-3)
    assert found["rows"] == 4
    assert (found["provider"], found["executed_on"]) == ("CPUExecutionProvider",) * 2


def test_a_rounded_bundle_is_as_far_off_as_its_logits_are(
    built: Find, measured: tuple[str, Path, Path]
) -> None:
    case, folder, _ = measured
    found = verify(built, measured, "cpu-int4")
    reference = Reference.open(folder, built(case, "base"))
    (path,) = (built(case, "cpu-int4") / "onnx").glob("*.onnx")
    session = GraphSession(path, threads=1)
    for kind in ("task", "generic"):
        kl = []
        for index, probe in enumerate(reference.probes(kind)):
            p = torch.log_softmax(reference.logits(kind, index).double(), -1)
            rows = session.logits(probe.ids)[probe.positions].astype(np.float64)
            q = torch.log_softmax(torch.from_numpy(rows), -1)
            kl += (p.exp() * (p - q)).sum(-1).tolist()
        assert len(kl) == found[f"{kind}_tokens"]
        assert found[f"{kind}_kl"] == pytest.approx(np.mean(kl), rel=1e-3)
        assert found[f"{kind}_kl"] > 1e-3


def test_a_vocabulary_too_large_for_a_whole_text_is_measured_as_well(
    built: Find, measured: tuple[str, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = verify(built, measured, "cpu-fp32")
    monkeypatch.setattr(pieces, "LOGIT_BYTES", 1)
    monkeypatch.setattr(pieces, "LEAST", 3)
    parts = verify(built, measured, "cpu-fp32")
    for name in ("task_tokens", "generic_tokens", "top1_agreement"):
        assert parts[name] == whole[name]
    for name in ("task_loss", "reference_task_loss", "generic_perplexity"):
        assert parts[name] == pytest.approx(whole[name], abs=1e-5)
    assert 0 <= parts["generic_kl"] < 1e-6


def test_a_bundle_of_another_model_is_far_off(
    built: Find, measured: tuple[str, Path, Path]
) -> None:
    """The measures are of use only if they notice what they are for: an adapter that is gone."""
    case, folder, _ = measured
    reference = Reference.open(folder, built(case, "base"))
    bare = AutoModelForCausalLM.from_pretrained(built(case, "model"), dtype=torch.float32).eval()
    probe = reference.probes("generic")[0]
    wanted = torch.log_softmax(reference.logits("generic", 0), -1)
    with torch.no_grad():
        without = torch.log_softmax(bare(torch.tensor([probe.ids])).logits[0], -1)[probe.positions]
        adapted = PeftModel.from_pretrained(bare, str(built(case, "adapter"))).eval()
        original = torch.log_softmax(adapted(torch.tensor([probe.ids])).logits[0], -1)
    far, near = (
        float((wanted.exp() * (wanted - other)).sum(-1).mean())
        for other in (without, original[probe.positions])
    )
    assert far > 10 * near > 0


def test_cuda_graph_is_measured_on_the_cpu_and_says_so(
    built: Find, measured: tuple[str, Path, Path]
) -> None:
    found = verify(built, measured, "cuda-fp16")
    assert (found["provider"], found["executed_on"]) == (
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    )
    assert found["execution"] == "graph verified on CPUExecutionProvider, CUDA not executed"
    assert "edgepeft[cuda]" in found["not_executed_because"]
    assert found["task_kl"] < 1e-3


def test_a_bfloat16_graph_is_measured_in_float32_with_its_own_weights(
    built: Find, measured: tuple[str, Path, Path]
) -> None:
    found = verify(built, measured, "cuda-bf16")
    assert found["execution"] == "graph verified on CPUExecutionProvider, CUDA not executed"
    # Eight bits of mantissa cost more than half precision's eleven and far less than four-bit codes.
    assert 1e-8 < found["task_kl"] < 1e-2


def test_a_webgpu_bundle_is_run_by_webgpu(
    built: Find, measured: tuple[str, Path, Path], webgpu: str
) -> None:
    if measured[0] == "gemma2":
        # Its attention is capped, which WebGPU passes over: the execution says so, the graph alone would not.
        with pytest.raises(EdgepeftError, match="WebGpuExecutionProvider differs from the CPU"):
            verify(built, measured, "webgpu-int4-fp32")
        return
    found = verify(built, measured, "webgpu-int4-fp32")
    assert found["execution"].startswith(f"executed on WebGpuExecutionProvider ({webgpu}): ")
    assert found["software_max_difference"] < 1e-3
    half = verify(built, measured, "webgpu-int4")
    assert half["execution"] == "graph verified on CPUExecutionProvider, WebGpu not executed"
    assert half["not_executed_because"] == f"{webgpu} is software without half precision"
