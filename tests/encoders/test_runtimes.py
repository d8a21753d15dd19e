"""The same folder gives the same answers in transformers.js, and by WebGPU's own kernels."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepeft.errors import EdgepeftError
from edgepeft.evaluation import encoders as fidelity
from edgepeft.evaluation import execution as executions
from edgepeft.evaluation.execution import choose_execution
from edgepeft.evaluation.settings import VerifySettings
from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING, TAGGING
from edgepeft.runtime import Encoder
from edgepeft.runtime.devices import WEBGPU
from tests.conftest import SAMPLES
from tests.stages import Find, job_of

TEXTS = ("What is the colour of a lemon (number 31)?", "Turn on the light in the kitchen.")


def by_transformers_js(bundle: Path, node: str) -> list[Any]:
    command = [node, "device/read.mjs", str(bundle), *TEXTS]
    done = subprocess.run(command, cwd=SAMPLES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_transformers_js_gives_the_same_labels(built: Find, node: str) -> None:
    bundle = built(f"minilm-{CLASSIFICATION}", "cpu-int4")
    encoder = Encoder(bundle)
    for text, found in zip(TEXTS, by_transformers_js(bundle, node), strict=True):
        wanted = {one.label: one.score for one in encoder.classify(text)}
        assert {one["label"]: one["score"] for one in found} == pytest.approx(wanted, abs=1e-4)


def test_transformers_js_tags_the_same_words(built: Find, node: str) -> None:
    bundle = built(f"bert-{TAGGING}", "cpu-fp32")
    encoder = Encoder(bundle)
    for text, found in zip(TEXTS, by_transformers_js(bundle, node), strict=True):
        ours = {span.label for span in encoder.spans(text)}
        assert ours <= {one["entity"].partition("-")[2] for one in found}


def test_transformers_js_gives_the_same_vector(built: Find, node: str) -> None:
    bundle = built(f"minilm-{EMBEDDING}", "cpu-fp32")
    encoder = Encoder(bundle)
    for text, found in zip(TEXTS, by_transformers_js(bundle, node), strict=True):
        np.testing.assert_allclose(found, encoder.embed(text), atol=1e-5)


def verify_on_webgpu(built: Find, folder: Path, bundle: Path) -> dict[str, Any]:
    case = f"minilm-{CLASSIFICATION}"
    execution = choose_execution(WEBGPU, "fp32")
    inputs = {
        "bundle": bundle,
        "reference": built(case, "reference"),
        "base": built(case, "base"),
    }
    folder.mkdir()
    settings = {"execution": execution.as_dict()}
    return fidelity.verify(job_of(VerifySettings, folder, settings, inputs)).as_dict()


def test_webgpu_runs_the_graph_itself(built: Find, webgpu: str, tmp_path: Path) -> None:
    bundle = built(f"minilm-{CLASSIFICATION}", "webgpu-int4-fp32")
    found = verify_on_webgpu(built, tmp_path / "out", bundle)
    assert found["execution"].startswith(f"executed on {WEBGPU} ({webgpu})")
    assert found["software_max_difference"] < 1e-3


def test_a_provider_that_departs_is_found_out(
    built: Find, webgpu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = built(f"minilm-{CLASSIFICATION}", "webgpu-int4-fp32")
    monkeypatch.setattr(executions, "MAX_DIFFERENCE", 0.0)
    with pytest.raises(EdgepeftError, match="differs from the CPU by"):
        verify_on_webgpu(built, tmp_path / "out", bundle)
