"""``edgepeft compare`` on runs of encoders, each by the measures of its task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from edgepeft.models.tasks import EMBEDDING, TAGGING
from tests.command import edgepeft
from tests.tiny_encoders import write_encoder_data, write_tiny_encoder


@pytest.mark.parametrize(
    ("task", "measure", "title"),
    [(TAGGING, "span F1", "task KL (nats per label)"), (EMBEDDING, "least cosine", "1 - cosine")],
)
def test_ways_to_quantize_an_encoder_are_put_side_by_side(
    tmp_path: Path, task: str, measure: str, title: str
) -> None:
    write_tiny_encoder(tmp_path / "model", "minilm")
    write_encoder_data(tmp_path, task)
    recipe = {
        "model": "model",
        "data": {"train": "train.jsonl", "test": "test.jsonl"},
        "method": {"name": "lora", "rank": 4},
        "training": {"max_steps": 2},
        "targets": ["cpu-fp32"],
        "gates": {"max_task_kl": None, "min_cosine_similarity": None},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run = tmp_path / "run"
    built = edgepeft("build", tmp_path / "recipe.yaml", "--out", run)
    assert built.returncode == 0, built.stderr
    picture = tmp_path / "picture.svg"
    vary = ("--vary", "targets=cpu-int4,cpu-int8", "--vary", "quantize.algorithm=rtn")
    done = edgepeft("compare", run, *vary, "--picture", picture)
    assert done.returncode == 0, done.stderr
    assert measure in done.stdout
    assert f"{title} against bundle size (MB)" in done.stdout
    assert title in picture.read_text()
    coarse, fine = json.loads((run / "comparison.json").read_text())["entries"]
    assert coarse["bytes"] < fine["bytes"]
    lost = [
        entry["fidelity"].get("task_kl", 1 - entry["fidelity"].get("cosine_similarity", 1))
        for entry in (coarse, fine)
    ]
    assert lost[0] > lost[1]
