"""lm_eval asks for rows and measures where they are watched."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from edgepeft.compat.lm_eval_fetching import CodeRefused, RowsError, watched


def test_rows_are_asked_for_by_the_function_that_is_watched(tmp_path: Path) -> None:
    import datasets
    from lm_eval.api.task import ConfigurableTask

    load_rows = datasets.load_dataset
    config = {
        "task": "mine",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "nowhere.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "q",
        "doc_to_target": "a",
    }
    with watched() as refused, pytest.raises(RowsError) as failed:
        ConfigurableTask(config=dict(config))
    assert failed.value.path == "json"
    assert isinstance(failed.value.cause, FileNotFoundError)
    (tmp_path / "nowhere.jsonl").write_text(json.dumps({"q": "a", "a": "b"}) + "\n")
    with watched():
        ConfigurableTask(config=dict(config))
    assert datasets.load_dataset is load_rows
    assert refused == []


def test_measures_are_asked_for_by_the_module_that_stands_there() -> None:
    from lm_eval.api.registry import get_metric

    before = sys.modules.get("evaluate")
    with watched() as refused:
        # lm_eval takes whatever is raised for a measure that doesn't exist.
        assert get_metric("mine") is None
        assert get_metric("accuracy", True) is None
        with pytest.raises(CodeRefused):
            importlib.import_module("evaluate").load("code_eval")
    assert refused == ["mine", "accuracy", "code_eval"]
    assert sys.modules.get("evaluate") is before


def test_tasks_import_it_for_nothing_else() -> None:
    """The modules of lm_eval's own tasks, read."""
    import lm_eval

    found = set()
    for path in Path(lm_eval.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if names := re.findall(r"^\s*import evaluate(?: as (\w+))?$", text, re.MULTILINE):
            name = names[0] or "evaluate"
            found |= set(re.findall(rf"\b{name}\.(\w+)\(", text))
        found |= set(re.findall(r"^\s*from evaluate import (.+)$", text, re.MULTILINE))
    assert found == {"load"}
