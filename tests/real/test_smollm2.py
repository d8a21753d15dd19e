"""The real model through the whole pipeline: real weights, real bitsandbytes, TRL, PEFT and onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgepeft.evaluation.seal import folder_bytes
from tests.command import edgepeft
from tests.real.conftest import RECIPE, SHORTER
from tests.runtimes import (
    by_genai,
    by_onnxruntime,
    by_transformers_js,
    c_program,
    without_stop,
)

pytestmark = pytest.mark.real


def test_int8_is_close_to_the_reference(smollm2: dict[str, Any]) -> None:
    """The promise in figures, on a model that has learned for 14 steps."""
    fidelity = smollm2["bundles"][1]["fidelity"]
    assert fidelity["task_kl"] < 0.005
    assert fidelity["generic_kl"] < 0.01
    assert fidelity["recovery"] == pytest.approx(1.0, abs=0.02)
    assert fidelity["base_exact_match"] == 0.0


def test_training_learned_the_task(smollm2: dict[str, Any]) -> None:
    """Far from done, but most of the way from the base's loss."""
    fidelity = smollm2["bundles"][0]["fidelity"]
    assert fidelity["reference_task_loss"] < 0.25 * fidelity["base_task_loss"]
    assert fidelity["recovery"] > 0.9


def test_int4_bundle_holds_the_embedding_once(smollm2: dict[str, Any]) -> None:
    """135 M weights at 4 bits and a tied 8-bit head are about 107 MB; a second embedding would show."""
    assert smollm2["bundles"][0]["bytes"] < 110e6
    assert smollm2["bundles"][1]["bytes"] < 165e6


def test_the_c_program_spells_the_whole_answer(smollm2: dict[str, Any], tmp_path: Path) -> None:
    from edgepeft.runtime import Runtime

    ask = c_program(tmp_path)
    bundle = smollm2["bundles"][0]["path"]
    runtime = Runtime(bundle)
    for prompt in ("Please turn on the heater in the attic.", "Tell me something about snow."):
        wanted = runtime.complete(prompt, max_new_tokens=48)
        assert len(wanted.ids) > 8
        assert ask(bundle, prompt, 48).rstrip("\n") == wanted.text.rstrip("\n")


@pytest.fixture(scope="module")
def builders_settings(smollm2: dict[str, Any]) -> Path:
    """The same adapter at the graph builder's own int4 settings, with float activations."""
    run = Path(smollm2["run"])
    target = "{name: builders, like: cpu-int4, accuracy_level: 0, quantize: "
    target += "{algorithm: rtn, symmetric: true, head: int4}}"
    done = edgepeft(
        "export", RECIPE, "--out", run, *SHORTER, "--set", f"targets=[{target}]", "--json"
    )
    assert done.returncode == 0, done.stderr
    (bundle,) = json.loads(done.stdout)["bundles"]
    return Path(bundle["path"])


def test_the_builders_settings_stay_below_92_megabytes(builders_settings: Path) -> None:
    """All files, tokenizer too; the builder's own folder is 90 MB with a second tokenizer's less."""
    assert folder_bytes(builders_settings) <= 92e6


def test_three_runtimes_give_the_same_tokens(builders_settings: Path, node: str) -> None:
    """20 prompts of 32 tokens, with float activations: nothing but the last bits differs between runtimes."""
    wanted = by_genai(builders_settings)
    assert len(wanted) == 20
    assert sum(map(len, wanted)) > 20 * 6
    assert by_onnxruntime(builders_settings) == wanted
    answers = by_transformers_js(builders_settings, node)
    assert without_stop(answers, builders_settings) == wanted


def test_the_plan_foresaw_sizes_and_memory(smollm2: dict[str, Any], tmp_path: Path) -> None:
    """Bundles within a tenth; memory not below what was used, and not beyond twice that."""
    done = edgepeft("plan", RECIPE, "--out", tmp_path / "run", *SHORTER, "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    for planned, built in zip(plan["bundles"], smollm2["bundles"], strict=True):
        assert planned["target"] == built["target"]
        assert planned["bytes"] == pytest.approx(built["bytes"], rel=0.1)
    peak = smollm2["peak_memory_bytes"]
    assert 0.9 * peak < plan["peak_memory_bytes"] < 2 * peak


def test_merging_rounding_and_exporting_stay_small(smollm2: dict[str, Any]) -> None:
    """At most 1.2 GB resident in any of the three stages."""
    run = Path(smollm2["run"])
    peaks = {}
    for path in [*run.glob("stages/*/edgepeft.json"), *run.glob("bundles/*/edgepeft.json")]:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        peaks[manifest["stage"]] = manifest["peak_memory_bytes"]
    packing = {k: v for k, v in peaks.items() if k.startswith(("merge", "quantize", "export"))}
    assert len(packing) >= 5
    assert max(packing.values()) < 1.2e9, packing


def test_plain_onnxruntime_genai_loads_the_bundle(smollm2: dict[str, Any]) -> None:
    """Unchanged, and with the same greedy tokens as edgepeft's own runtime."""
    import onnxruntime_genai as og

    from edgepeft.runtime import Runtime

    bundle = smollm2["bundles"][0]["path"]
    runtime = Runtime(bundle)
    ids = runtime.prompter.prompt(
        [{"role": "user", "content": "Please turn on the heater in the attic."}]
    )
    ours = runtime.generate_ids(ids, max_new_tokens=24)
    model = og.Model(bundle)
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(do_sample=False, max_length=len(ids) + 24)
    generator = og.Generator(model, parameters)
    generator.append_tokens(ids)
    theirs: list[int] = []
    while not generator.is_done() and len(theirs) < 24:
        generator.generate_next_token()
        theirs.append(int(generator.get_next_tokens()[0]))
    assert theirs[: len(ours)] == ours
    assert len(ours) > 4
