"""An encoder's build that misses a gate says what bears on its task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING
from tests.command import edgepeft
from tests.tiny_encoders import write_encoder_data, write_tiny_encoder


@pytest.mark.parametrize(
    ("task", "gates", "missed"),
    [
        (CLASSIFICATION, {"max_task_kl": 1e-12, "max_accuracy_drop": 1}, "max_task_kl"),
        (EMBEDDING, {"min_cosine_similarity": 1}, "min_cosine_similarity"),
    ],
)
def test_an_encoder_that_misses_a_gate_says_what_to_try(
    tmp_path: Path, task: str, gates: dict[str, float], missed: str
) -> None:
    write_tiny_encoder(tmp_path / "model", "minilm")
    write_encoder_data(tmp_path, task)
    recipe = {
        "model": "model",
        "data": {"train": "train.jsonl", "test": "test.jsonl"},
        "method": {"name": "lora", "rank": 4},
        "training": {"max_steps": 4, "learning_rate": 0.01},
        "targets": ["cpu-int4"],
        "gates": {**gates, "min_reference_gain": None},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = edgepeft("build", tmp_path / "recipe.yaml", "--out", tmp_path / "run", "--json")
    assert done.returncode == 4, done.stderr
    (bundle,) = json.loads(done.stdout)["bundles"]
    assert bundle["gates"][0].startswith(missed)
    (lost,) = bundle["advice"]["lost"]
    rows = json.loads(Path(lost["file"]).read_text())
    assert lost["rows"] == len(rows) == bundle["fidelity"]["lost"]
    assert lost["first"] == [row["where"] for row in rows[:5]]
    tried = {one["what"] for one in bundle["advice"]["try"]}
    assert "targets: cpu-int8 in place of cpu-int4" in tried
    assert "quantize.calibration.tokens: 12288" in tried
    # Budgets and smoothing are refused here, and learned scales are proposed for text generation alone.
    assert not any(word in what for what in tried for word in ("kl", "bytes", "smooth", "learn"))
