"""The commands that make adapters of adapters, and recipes that name several, as users run them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.conftest import Built
from tests.command import build_json, edgepeft, write_recipe
from tests.stages import write_adapter
from tests.tiny import write_tiny_data, write_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and two adapters of it."""
    root = tmp_path_factory.mktemp("adapters")
    model = write_tiny_model(root / "model", "llama")
    for number in (1, 2):
        write_adapter(model, root / str(number), seed=number, r=2 * number)
    write_tiny_data(root / "data")
    return root


def test_combine_and_compress_make_adapters_and_say_what_they_did(
    folder: Path, tmp_path: Path
) -> None:
    done = edgepeft(
        "combine", folder / "1", folder / "2", "--method", "ties_svd", "--weights", "0.6,0.4",
        "--density", "0.5", "--rank", "3", "--out", tmp_path / "new", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["method"], facts["weights"], facts["rank"]) == ("ties_svd", [0.6, 0.4], 3)
    assert [part["rank"] for part in facts["of"]] == [2, 4]
    shown = edgepeft("inspect", tmp_path / "new", "--json")
    assert json.loads(shown.stdout)["rank"] == 3
    done = edgepeft("compress", tmp_path / "new", "--rank", "1", "--out", tmp_path / "small")
    assert done.returncode == 0, done.stderr
    assert "error" in done.stdout
    assert "worst module" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["combine", "1", "--out", "new"], "at least two adapters"),
        (["combine", "1", "2", "--weights", "a,b", "--out", "new"], "--weights: a,b: write one"),
        (["combine", "1", "2", "--method", "tees", "--out", "new"], "did you mean ties?"),
        (["combine", "1", "2", "--method", "ties", "--out", "new"], "--density"),
        (["combine", "1", "nowhere", "--out", "new"], "nowhere: no such adapter folder"),
        (["combine", "1", "2", "--out", "1"], "1: exists already"),
        (["combine", "1", "2", "--search", "--out", "new"], "--search: needs test rows"),
        (
            ["combine", "1", "2", "--test", "1=data", "--out", "new"],
            "needs the base model; give --model",
        ),
        (
            ["combine", "1", "2", "--test", "3=data", "--model", "model", "--out", "new"],
            "NAME is one of 1, 2",
        ),
        (["compress", "1", "--rank", "9", "--out", "new"], "9 is not below 2"),
        (["compress", "model", "--rank", "1", "--out", "new"], "not a PEFT adapter folder"),
        (["extract", "model", "1", "--rank", "1", "--out", "new"], "holds neither model.safetens"),
        (["methods", "cartridge"], "a cartridge can't be merged"),
        (["methods", "lara"], "did you mean lora?"),
    ],
)
def test_one_line_and_exit_2(folder: Path, arguments: list[str], wanted: str) -> None:
    done = edgepeft(*arguments, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert wanted in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (folder / "new").exists()


def test_a_recipe_may_combine_adapters(folder: Path, tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path / "tiny.yaml",
        folder / "model",
        (folder / "data" / "train.jsonl", folder / "data" / "test.jsonl"),
        adapter=[str(folder / "1"), {"path": str(folder / "2"), "weight": -0.5}],
        combine={"method": "cat"},
        merge={"grid": "nf4"},
        method=None,
        training=None,
        targets=["cpu-fp32"],
    )
    result = build_json(recipe, "--out", tmp_path / "run")
    assert json.loads((Path(result["adapter"]) / "adapter_config.json").read_text())["r"] == 6
    (bundle,) = result["bundles"]
    assert bundle["fidelity"]["task_kl"] < 1e-6
    again = build_json(recipe, "--out", tmp_path / "run")
    assert "combine" in again["reused"]
    done = edgepeft("build", recipe, "--set", "combine.density=0.5", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "combine.density: cat drops nothing" in done.stderr


def test_a_recipe_may_fit_adapters_to_rows(folder: Path, tmp_path: Path) -> None:
    """The stage makes what the command makes of the same rows, and the bundle is what it made."""
    rows = [folder / "data" / "train.jsonl", folder / "data" / "test.jsonl"]
    parts: list[dict[str, object]] = [
        {"path": str(folder / str(number)), "rows": str(file)}
        for number, file in zip((1, 2), rows, strict=True)
    ]
    bare = [part["path"] for part in parts]
    recipe = write_recipe(
        tmp_path / "tiny.yaml",
        folder / "model",
        (rows[0], rows[1]),
        adapter=parts,
        combine={"method": "regmean", "rows": 4},
        merge={"grid": "nf4"},
        method=None,
        training=None,
        targets=["cpu-fp32"],
    )
    result = build_json(recipe, "--out", tmp_path / "run")
    made = load_file(Path(result["adapter"]) / "adapter_model.safetensors")
    (bundle,) = result["bundles"]
    assert bundle["fidelity"]["task_kl"] < 1e-6
    tests = [f"{number}={file}" for number, file in zip((1, 2), rows, strict=True)]
    done = edgepeft(
        *("combine", folder / "1", folder / "2", "--method", "regmean", "--search-rows", "4"),
        *("--model", folder / "model", "--test", tests[0], "--test", tests[1]),
        *("--rows", "1", "--out", tmp_path / "both", "--progress", "none"),
    )
    assert done.returncode == 0, done.stderr
    wanted = load_file(tmp_path / "both" / "adapter_model.safetensors")
    assert made.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(made[name], tensor)
    rows_twice = edgepeft("plan", recipe)
    assert "adapter.1.rows: is the same file as data.test" in " ".join(rows_twice.stderr.split())
    fitted, added = (
        next(
            stage["memory_bytes"]
            for stage in json.loads(edgepeft("plan", recipe, "--json", *change).stdout)["stages"]
            if stage["stage"] == "combine"
        )
        for change in ([], ["--set", "combine.method=cat", "--set", f"adapter={json.dumps(bare)}"])
    )
    assert fitted > added
    first, second = parts
    for change, line in (
        ("combine.method=cat", "adapter.0.rows: is used by combine.method regmean only"),
        (
            f"adapter={json.dumps([first, second['path']])}",
            "adapter.1.rows: regmean needs rows of every adapter's task",
        ),
        (
            f"adapter={json.dumps([first, {**second, 'rows': 'gone.jsonl'}])}",
            "gone.jsonl: cannot be read",
        ),
        (
            f"adapter={json.dumps([first, {**second, 'weight': -1}])}",
            "adapter.weight: regmean weighs errors",
        ),
    ):
        refused = edgepeft("build", recipe, "--set", change, "--out", tmp_path / "run")
        assert refused.returncode == 2
        assert line in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1


def test_adapter_of_another_base_is_refused_unless_allowed(built: Built, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", "llama", seed=5)
    arguments = ["merge", "--model", other, "--adapter", built.result["adapter"]]
    done = edgepeft(*arguments, "--out", tmp_path / "run", "--progress", "none")
    assert done.returncode == 2
    assert "whose weights are not these" in done.stderr
    assert "--allow-base-mismatch" in done.stderr
    done = edgepeft(
        *arguments, "--allow-base-mismatch", "--out", tmp_path / "run", "--progress", "none"
    )
    assert done.returncode == 0, done.stderr


def test_methods_are_listed_with_what_they_can_be_told() -> None:
    listed = json.loads(edgepeft("methods", "--json").stdout)
    assert {"qlora", "dora", "loha", "ia3", "full"} <= {entry["name"] for entry in listed}
    shown = edgepeft("methods", "adalora")
    assert shown.returncode == 0
    assert "method.options.tinit" in shown.stdout
