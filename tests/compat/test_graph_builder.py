"""The graph builder calls every method that is replaced, and is as before afterwards."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest

from tests.compat.built import REPLACED
from tests.tiny import HIDDEN_SIZE, write_tiny_model

FAMILIES = ("llama", "gemma2", "smollm3")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was seen of each family."""
    root = tmp_path_factory.mktemp("built")
    models = [write_tiny_model(root / "models" / family, family) for family in FAMILIES]
    done = subprocess.run(
        [sys.executable, "-m", "tests.compat.built", root, *models],
        capture_output=True,
        text=True,
        check=False,
    )
    found = root / "seen.json"
    assert found.is_file(), done.stderr[-2000:]
    read: dict[str, Any] = json.loads(found.read_text())
    return read


def test_the_methods_have_their_arguments(seen: dict[str, Any]) -> None:
    wanted = {
        "load_weights": ["self", "input_path"],
        "make_initializer": ["self", "tensor", "name", "to", "raw"],
        "save_model": ["self", "out_dir"],
        "make_config_init": ["self", "config"],
        "make_attention_qk_rope": ["self", "layer_id", "kwargs"],
        "has_lm_head": ["self", "module"],
        "make_embedding": ["self", "embedding"],
    }
    signatures = seen["llama"]["signatures"]
    assert {name: signatures[name] for name in wanted} == wanted
    assert len(signatures["save_processing"]) == 4


@pytest.mark.parametrize("family", FAMILIES)
def test_each_is_called_and_nothing_is_saved(family: str, seen: dict[str, Any]) -> None:
    found = seen[family]
    # Llama's builder rotates inside attention, and calls for no rotation of its own.
    rare = {"make_attention_qk_rope"} if family != "smollm3" else set()
    assert {name for name in REPLACED if found["calls"].get(name)} >= set(REPLACED) - rare
    assert found["saved"] == ["genai_config.json"]
    assert found["restored"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_comes_with_all_weights_as_expressions(family: str, seen: dict[str, Any]) -> None:
    found = seen[family]
    assert found["names"] == found["weights"]
    # Gemma says the size itself, and twice what four heads would share.
    assert found["head_size"] == HIDDEN_SIZE // (2 if family == "gemma2" else 4)
    assert found["calls"]["heads"] == 1


def test_the_scale_of_an_embedding_is_read_where_it_is_set(seen: dict[str, Any]) -> None:
    assert seen["gemma2"]["scale"] == math.sqrt(HIDDEN_SIZE)
    assert seen["llama"]["scale"] == 1.0


def test_layers_without_positions_are_named_where_they_are_read(seen: dict[str, Any]) -> None:
    assert seen["llama"]["no_rope"] is None
    assert set(seen["smollm3"]["no_rope"]) == {0, 1}
