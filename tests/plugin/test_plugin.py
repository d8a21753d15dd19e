"""A package beside edgepeft adds an algorithm, a target, a method and a stage, and a recipe uses all four."""

from __future__ import annotations

import json
import os
from pathlib import Path

import onnx
import pytest
import yaml

from edgepeft.quantization.packed_weights import QuantizedWeights
from tests.command import edgepeft
from tests.conftest import ModelMaker
from tests.tiny import write_tiny_data

ENTRY_POINTS = """\
[edgepeft.quantizers]
roomy = edgepeft_sample.rounding:ROUNDING

[edgepeft.targets]
sample = edgepeft_sample.targets:TARGETS

[edgepeft.methods]
small_lora = edgepeft_sample.methods:SMALL_LORA

[edgepeft.stages]
weigh = edgepeft_sample.stage:WEIGH
"""


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a command beside which the package is installed."""
    site = tmp_path / "site"
    information = site / "edgepeft_sample-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: edgepeft-sample\nVersion: 1.0\n"
    )
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "edgepeft_sample").symlink_to(Path(__file__).parent / "edgepeft_sample")
    return {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}


def test_a_recipe_uses_what_a_package_beside_edgepeft_adds(
    tiny_model: ModelMaker, tmp_path: Path, installed: dict[str, str]
) -> None:
    write_tiny_data(tmp_path)
    recipe = {
        "model": str(tiny_model("llama")),
        "data": {"train": "train.jsonl", "test": "test.jsonl"},
        "method": {"name": "small_lora"},
        "training": {"max_steps": 2, "eval_rows": 0},
        "quantize": {"algorithm": "roomy", "smooth": False},
        "targets": ["board-int8"],
        "gates": {"min_reference_gain": None, "max_task_kl": 1.0, "max_exact_match_drop": None},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run = tmp_path / "run"
    built = edgepeft("build", tmp_path / "recipe.yaml", "--out", run, "--json", env=installed)
    assert built.returncode == 0, built.stderr

    stages = {path.name.rpartition("-")[0]: path for path in (run / "stages").iterdir()}
    config = json.loads((stages["train"] / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (2, 4.0)
    assert sorted(config["target_modules"]) == ["q_proj", "v_proj"]
    (rounded,) = (folder for name, folder in stages.items() if name.startswith("quantize-int8"))
    assert QuantizedWeights.open(rounded).plan.algorithm == "roomy"
    bundle = run / "bundles" / "board-int8"
    graph = onnx.load(bundle / "onnx" / "model_board.onnx", load_external_data=False).graph
    blocks = {
        attribute.i
        for node in graph.node
        if node.op_type == "MatMulNBits"
        for attribute in node.attribute
        if attribute.name == "block_size"
    }
    assert blocks == {64}
    weights = json.loads((stages["weigh-board-int8"] / "weights.json").read_text())
    assert weights["onnx/model_board.onnx"] == (bundle / "onnx" / "model_board.onnx").stat().st_size


def test_the_stage_is_planned_behind_the_one_that_it_names(
    tiny_model: ModelMaker, tmp_path: Path, installed: dict[str, str]
) -> None:
    write_tiny_data(tmp_path)
    options = [f"model={tiny_model('llama')}", f"data.train={tmp_path / 'train.jsonl'}"]
    options = [part for option in options for part in ("--set", option)]
    planned = edgepeft(
        "export", *options, "--dry-run", "--json", "--out", tmp_path / "run", env=installed
    )
    assert planned.returncode == 0, planned.stderr
    names = [stage["stage"] for stage in json.loads(planned.stdout)["stages"]]
    assert names[-2:] == ["export-cpu-int4", "weigh-cpu-int4"]
