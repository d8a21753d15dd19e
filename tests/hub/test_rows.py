"""Rows and adapters by id, as a recipe names them: what is read, what is said, what is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hub.conftest import User
from tests.hub.served import TOKEN, Hub
from tests.stages import write_adapter
from tests.tiny import write_tiny_data


@pytest.fixture
def rows(hub: Hub, tmp_path: Path) -> dict[str, bytes]:
    """The files of the dataset ``me/rows``."""
    train, test = write_tiny_data(tmp_path / "rows", rows=16)
    files = {
        "README.md": b"# Rows without metadata",
        "train.jsonl": train.read_bytes(),
        "test.jsonl": test.read_bytes(),
        "rows.py": b"raise SystemExit",
    }
    hub.add("me/rows", files, "dataset")
    return files


def recipe(user: User, model: Path | str, **keys: Any) -> Path:
    """A recipe in the user's folder."""
    path = user.folder / "recipe.yaml"
    data = {"train": "hf://datasets/me/rows#train", "test": "hf://datasets/me/rows/test.jsonl"}
    path.write_text(
        yaml.safe_dump({"model": str(model), "data": data, "targets": ["cpu-int4"], **keys})
    )
    return path


def test_a_file_and_a_split_are_read(
    user: User, hub: Hub, rows: dict[str, bytes], model: Path
) -> None:
    plan = user.json("plan", recipe(user, model))
    assert (plan["train_rows"], plan["test_rows"]) == (16, 4)
    commit = hub.repo("me/rows", "dataset").refs["main"]
    assert plan["notes"] == [
        f"data.train: hf://datasets/me/rows#train: train.jsonl at commit {commit[:12]}"
    ]
    assert plan["sources"][0] == {
        "key": "data.train",
        "named": "hf://datasets/me/rows#train",
        "repo": "me/rows",
        "kind": "dataset",
        "commit": commit,
        "files": ["train.jsonl"],
    }
    assert not [name for name in hub.asked if name.endswith("rows.py")]


def test_a_revision_of_a_dataset(user: User, hub: Hub, rows: dict[str, bytes], model: Path) -> None:
    one = b"".join(rows["train.jsonl"].splitlines(keepends=True)[:5])
    hub.repo("me/rows", "dataset").commit({**rows, "train.jsonl": one}, "small")
    data = {
        "train": "hf://datasets/me/rows@small#train",
        "test": "hf://datasets/me/rows/test.jsonl",
    }
    assert user.json("plan", recipe(user, model, data=data))["train_rows"] == 5


def test_shards_are_read_one_after_the_other(
    user: User, hub: Hub, rows: dict[str, bytes], model: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    lines = [json.loads(line) for line in rows["train.jsonl"].splitlines()]
    files = {}
    for number, part in enumerate((lines[:10], lines[10:])):
        stream = io.BytesIO()
        parquet.write_table(arrow.Table.from_pylist(part), stream)
        files[f"data/train-{number:05d}-of-00002.parquet"] = stream.getvalue()
    hub.add("me/sharded", files, "dataset")
    data = {"train": "hf://datasets/me/sharded#train", "test": "hf://datasets/me/rows#test"}
    preview = user.json("data", recipe(user, model, data=data))
    assert preview["files"]["train"]["rows"] == 16
    assert [row["where"] for row in preview["rows"][:2]] == [
        "00000.parquet row 1",
        "00000.parquet row 2",
    ]
    plan = user.json("plan", recipe(user, model, data=data))
    assert plan["sources"][0]["files"] == sorted(files)
    again = user.json("plan", recipe(user, model, data=data), HF_HUB_OFFLINE="1")
    assert (again["sources"], again["train_rows"]) == (plan["sources"], 16)


def test_a_build_without_a_recipe_takes_ids(
    user: User, hub: Hub, rows: dict[str, bytes], model: Path
) -> None:
    hub.add("me/tiny", model)
    named = ("--model", "me/tiny", "--data", "hf://datasets/me/rows#train")
    plan = user.json("build", *named, "--steps", "2", "--dry-run")
    assert plan["train_rows"] + plan["test_rows"] == 16
    assert {one["key"] for one in plan["sources"]} == {"model", "data.train"}


def test_an_adapter_is_found_by_its_id(
    user: User, hub: Hub, rows: dict[str, bytes], model: Path, tmp_path: Path
) -> None:
    first = write_adapter(model, tmp_path / "first")
    hub.add("me/first", first)
    second = write_adapter(model, tmp_path / "second", seed=1)
    hub.repo("me/first").commit(
        {file.name: file.read_bytes() for file in second.iterdir() if file.is_file()}, "v2"
    )
    data = {"test": "hf://datasets/me/rows#test"}
    plain = user.json("plan", recipe(user, model, data=data, adapter="me/first"))
    other = user.json("plan", recipe(user, model, data=data, adapter="me/first@v2"))
    assert plain["sources"][0]["key"] == "adapter"
    assert plain["sources"][0]["commit"] != other["sources"][0]["commit"]
    both = user.json("plan", recipe(user, model, data=data, adapter=["me/first", "me/first@v2"]))
    assert [one["key"] for one in both["sources"]] == ["adapter[0]", "adapter[1]", "data.test"]


def test_each_refusal_has_its_own_mend(
    user: User, hub: Hub, rows: dict[str, bytes], model: Path
) -> None:
    hub.add("me/pickled", {"adapter_config.json": b"{}", "adapter_model.bin": b"\x80"})
    hub.add("me/model", {"config.json": b"{}", "model.safetensors": b""})
    hub.add("me/closed", rows, "dataset")
    hub.repo("me/closed", "dataset").gated = True
    said = {
        "data.train=hf://datasets/me/rwos#train": (2, "no such dataset that is public"),
        "data.train=hf://datasets/me/rows@v9#train": (2, "has no revision v9; it has main"),
        "data.train=hf://datasets/me/rows#trian": (2, "no data file of a split trian"),
        "data.train=hf://datasets/me/rows/trian.jsonl": (2, "did you mean train.jsonl?"),
        "data.train=hf://datasets/me/rows/rows.py": (2, "rows come as .jsonl"),
        "data.train=hf://datasets/me/rows": (2, "says neither file nor split"),
        "data.train=hf://datasets/me/closed#train": (2, f"{hub.address}/datasets/me/closed"),
        "adapter=me/none": (2, "adapter: me/none: the hub has no such model"),
        "adapter=me/pickled": (2, "pickles"),
        "adapter=me/model": (2, "it is a model's"),
    }
    path = recipe(user, model)
    for override, (status, words) in said.items():
        assert user.refused("plan", path, "--set", override)[0] == status
        assert words in user.refused("plan", path, "--set", override)[1], override
    status, line = user.refused(
        "plan", path, HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(user.home / "new")
    )
    assert status == 3
    assert "HF_HUB_OFFLINE" in line
    status, line = user.refused("plan", path, "--set", "data.train=hf://datasets/me/rows#validation",
                                HF_HUB_OFFLINE="1")  # fmt: skip
    assert status == 3, line


def test_a_private_dataset_takes_a_token(
    user: User, hub: Hub, rows: dict[str, bytes], model: Path
) -> None:
    hub.repo("me/rows", "dataset").private = True
    assert user.refused("plan", recipe(user, model))[0] == 2
    assert user.json("plan", recipe(user, model), token=TOKEN)["train_rows"] == 16
