"""What users get wrong: one line, the right exit status, before anything long."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command import edgepeft, write_recipe
from tests.tiny import write_tiny_data, write_tiny_model

Change = Callable[[dict[str, Any], Path], None]


def _set(*path: str, value: Any) -> Change:
    def change(recipe: dict[str, Any], folder: Path) -> None:
        node = recipe
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value

    return change


def _empty_test(recipe: dict[str, Any], folder: Path) -> None:
    (folder / "data" / "test.jsonl").write_text("", encoding="utf-8")


def _row_without_completion(recipe: dict[str, Any], folder: Path) -> None:
    rows = (folder / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows[6] = json.dumps({"prompt": "only a question"})
    (folder / "data" / "train.jsonl").write_text("\n".join(rows), encoding="utf-8")


def _adapter_in_place_of_training(recipe: dict[str, Any], folder: Path) -> None:
    del recipe["method"], recipe["training"]
    recipe["adapter"] = "./no-adapter"


def _pickle_only(recipe: dict[str, Any], folder: Path) -> None:
    (folder / "model" / "model.safetensors").rename(folder / "model" / "pytorch_model.bin")


def _config(**keys: Any) -> Change:
    def change(recipe: dict[str, Any], folder: Path) -> None:
        path = folder / "model" / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**config, **keys}), encoding="utf-8")

    return change


CASES: dict[str, tuple[Change, list[str]]] = {
    "missing model": (_set("model", value="./nowhere"), ["model", "nowhere"]),
    "pickle weights": (_pickle_only, ["pickle", "pytorch_model.bin"]),
    "vision model": (_config(vision_config={"depth": 2}), ["images"]),
    "mixture of experts": (_config(num_local_experts=8), ["mixture of experts"]),
    "unknown architecture": (
        _config(architectures=["OracleForCausalLM"]),
        ["Oracle", "supported: "],
    ),
    "no test rows": (_empty_test, ["test.jsonl", "no rows"]),
    "no completion": (_row_without_completion, ["train.jsonl", "line 7"]),
    "typo": (_set("trainig", value={}), ["trainig", "did you mean training?"]),
    "inner typo": (_set("method", "rnk", value=3), ["method.rnk", "did you mean rank?"]),
    "rank of 0": (_set("method", "rank", value=0), ["method.rank", "got 0"]),
    "unknown target": (_set("targets", value=["cpu-int5"]), ["cpu-int5", "cpu-int4", "cpu-int8"]),
    "unknown method": (_set("method", "name", value="qlor"), ["did you mean qlora?"]),
    "adapted embedding": (
        _set("method", value={"name": "ia3", "target_modules": ["embed_tokens"]}),
        ["embed_tokens", "target_modules", "use LoRA"],
    ),
    "unknown algorithm": (_set("quantize", value={"algorithm": "rtm"}), ["did you mean rtn?"]),
    "missing data": (_set("data", "test", value="absent.jsonl"), ["absent.jsonl"]),
    "missing adapter": (
        _adapter_in_place_of_training,
        ["no-adapter"],
    ),
    "bad template": (_set("data", "template", value="missing.jinja"), ["missing.jinja"]),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_and_exit_2_before_any_work(name: str, tmp_path: Path) -> None:
    """The line names what is wrong; no stage has run."""
    change, wanted = CASES[name]
    path = write_recipe(
        tmp_path / "bad.yaml",
        write_tiny_model(tmp_path / "model", "llama"),
        write_tiny_data(tmp_path / "data"),
    )
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(recipe, tmp_path)
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    done = edgepeft("build", path, "--out", tmp_path / "run", "--progress", "none")
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for part in wanted:
        assert part in lines[0]
    assert not list(tmp_path.glob("run/stages/*"))


def test_target_modules_that_match_nothing(tmp_path: Path) -> None:
    """What an expression matches PEFT alone can tell, so this comes a few seconds in, but still as one line."""
    path = write_recipe(
        tmp_path / "bad.yaml",
        write_tiny_model(tmp_path / "model", "llama"),
        write_tiny_data(tmp_path / "data"),
        method={"name": "lora", "target_modules": "no_such_.*"},
    )
    done = edgepeft("train", path, "--out", tmp_path / "run", "--progress", "none")
    assert done.returncode == 2
    assert "target_modules" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_not_enough_disk_is_said_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimate is held against the disk's free bytes."""
    from edgepeft.config.loader import load_recipe
    from edgepeft.errors import EXIT_FAILED, EdgepeftError
    from edgepeft.pipeline import build as pipeline

    path = write_recipe(
        tmp_path / "tiny.yaml",
        write_tiny_model(tmp_path / "model", "llama"),
        write_tiny_data(tmp_path / "data"),
    )
    monkeypatch.setattr(pipeline, "free_bytes", lambda place: 1000)
    with pytest.raises(EdgepeftError, match="free") as caught:
        pipeline.build(load_recipe(path), tmp_path / "run")
    assert caught.value.exit_status == EXIT_FAILED
    assert not (tmp_path / "run").exists()


def test_out_that_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    """Files that are not ours are not mixed with a run."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("important")
    path = write_recipe(
        tmp_path / "tiny.yaml",
        write_tiny_model(tmp_path / "model", "llama"),
        write_tiny_data(tmp_path / "data"),
    )
    done = edgepeft("build", path, "--out", tmp_path / "mine")
    assert done.returncode == 2
    assert "contains other files" in done.stderr
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_out_below_a_file_is_refused(tmp_path: Path) -> None:
    """A path that can't become a folder is one line, not a traceback."""
    (tmp_path / "file").write_text("")
    path = write_recipe(
        tmp_path / "tiny.yaml",
        write_tiny_model(tmp_path / "model", "llama"),
        write_tiny_data(tmp_path / "data"),
    )
    done = edgepeft("build", path, "--out", tmp_path / "file" / "run")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_full_disk_in_a_stage_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A file system of a few megabytes fills up in the middle: exit 1, and no final folder is broken."""
    if shutil.which("mount") is None:
        pytest.skip("no mount command")
    import os
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("not allowed to mount a small file system")
    try:
        path = write_recipe(
            tmp_path / "tiny.yaml",
            write_tiny_model(tmp_path / "model", "llama"),
            write_tiny_data(tmp_path / "data"),
        )
        done = edgepeft("build", path, "--out", small / "run", "--force", "--progress", "none")
        assert done.returncode == 1, done.stderr
        assert "disk is full" in done.stderr
        assert "Traceback" not in done.stderr
        for stage in (small / "run" / "stages").iterdir():
            assert stage.name.startswith(".") or (stage / "edgepeft.json").is_file()
    finally:
        subprocess.run(["umount", str(small)], check=False)
        os.sync()
