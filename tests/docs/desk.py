"""A folder with everything that the commands of README and docs name, made of tiny models."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.command import edgepeft
from tests.docs.console import ROOT
from tests.stages import write_adapter
from tests.tiny import write_tiny_data, write_tiny_model
from tests.tiny_encoders import write_tiny_encoder

NO_GATES = {"max_exact_match_drop": None, "max_task_kl": None, "min_reference_gain": None}
SHORT: dict[str, Any] = {
    "method": {"name": "qlora", "rank": 4},
    "training": {"max_steps": 2, "batch_size": 4, "eval_rows": 0},
    "gates": NO_GATES,
}


def lay_desk(desk: Path) -> Path:
    """Make the folder; returns it."""
    model = write_tiny_model(desk / "my-model", "llama", intermediate=192)
    for name in ("base", "base-model"):
        shutil.copytree(model, desk / name)
    for name in ("tuned", "tuned-model"):
        write_tiny_model(desk / name, "llama", intermediate=192, seed=0, std=0.081)
    data = {"train": "train.jsonl", "test": "test.jsonl", "max_test_rows": 4}
    write_tiny_data(desk, rows=32)
    _tickets(desk)
    (desk / "commands.jsonl").write_text('{"prompt": "What is the colour of snow?"}\n' * 3)
    recipe = {"model": "my-model", "data": data, "targets": ["cpu-int4"], **SHORT}
    write(desk / "recipe.yaml", recipe)
    names = (
        "my-adapter",
        "first",
        "second",
        "home-control",
        "support-desk",
        "customer-17",
        "customer-18",
    )
    for seed, name in enumerate(names):
        adapter = write_adapter(model, desk / name, seed=seed, r=16)
        # As QLoRA's own card has it, so that a grid is known and nothing is assumed.
        (adapter / "README.md").write_text("- load_in_4bit: True\n- bnb_4bit_quant_type: nf4\n")
        tested = {"model": "my-model", "data": data, "targets": ["cpu-int4"], "gates": NO_GATES}
        write(desk / f"{name}.yaml", {**tested, "adapter": name})
    (desk / "second.csv").write_text(
        "prompt,completion\n" + "What is the colour of snow?,w\nWhat is the colour of coal?,k\n" * 4
    )
    swapping = {**recipe, "targets": [{"name": "cpu-int4", "adapters": "hot-swap"}]}
    write(desk / "swap.yaml", swapping)
    _samples(desk)
    run(desk, "build", "swap.yaml", "--out", "runs/swap")
    shutil.copytree(desk / "runs" / "swap" / "bundles" / "cpu-int4", desk / "BUNDLE")
    write(desk / "home.yaml", {**recipe, "targets": ["cpu-int4", "webgpu-int4-fp32"]})
    run(desk, "build", "home.yaml", "--out", "runs/home-control")
    shutil.copytree(desk / "runs" / "home-control" / "bundles" / "cpu-int4", desk / "bundle")
    # Not message-team: a page builds it, and a run goes on for the recipe that began it alone, by its place.
    run(desk, "build", "samples/recipes/message-words.yaml")
    return desk


def _tickets(desk: Path) -> None:
    """Rows as somebody has them: a CSV file with columns of its own names."""
    rows = [json.loads(line) for line in (desk / "train.jsonl").read_text().splitlines()]
    with (desk / "tickets.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket", "Question", "Reply"])
        writer.writerows([f"T-{n}", row["prompt"], row["completion"]] for n, row in enumerate(rows))


def _samples(desk: Path) -> None:
    """The samples' recipes and rows, with a tiny encoder under them."""
    write_tiny_encoder(desk / "tiny", "minilm")
    for name in ("data", "device", "lm_eval", "web"):
        shutil.copytree(
            ROOT / "samples" / name,
            desk / "samples" / name,
            ignore=shutil.ignore_patterns("node_modules"),
        )
    libraries = ROOT / "samples" / "node_modules"
    if libraries.is_dir():
        (desk / "samples" / "node_modules").symlink_to(libraries)
    gates = {
        **dict.fromkeys(("max_accuracy_drop", "max_span_f1_drop", "max_task_kl")),
        **{"min_cosine_similarity": None, "min_reference_gain": None},
    }
    for path in sorted((ROOT / "samples" / "recipes").glob("message*.yaml")):
        recipe = yaml.safe_load(path.read_text())
        recipe["model"] = "../../tiny"
        recipe["gates"] = gates
        recipe.setdefault("training", {}).update(max_steps=2, batch_size=4, eval_rows=0)
        recipe.setdefault("data", {})["max_test_rows"] = 4
        for choices in recipe.get("matrix", {}).values():
            for choice in choices.values() if isinstance(choices, dict) else ():
                choice.pop("training.max_steps", None)
        write(desk / "samples" / "recipes" / path.name, recipe)


def write(path: Path, value: dict[str, Any]) -> None:
    """Write a recipe."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(json.loads(json.dumps(value))))


def run(desk: Path, *arguments: str) -> None:
    """Run the command in the folder; it must end well."""
    done = edgepeft(*arguments, cwd=desk)
    assert done.returncode == 0, done.stderr
