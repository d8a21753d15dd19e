"""What a matrix means: which cells there are, what each is called, and what is wrong with it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from edgepeft.config.loader import load_recipe
from edgepeft.config.matrix import Cell, cells_of, chosen_cells
from edgepeft.config.schema import json_schema
from edgepeft.errors import InputError


def cells(folder: Path, text: str, *overrides: str) -> list[Cell]:
    path = folder / "recipe.yaml"
    path.write_text(f"model: m\n{text}", encoding="utf-8")
    return cells_of(load_recipe(path, overrides))


CUSTOMERS = """
data: {test: both.jsonl, system: Be brief.}
method: {name: lora}
training: {max_steps: 3}
targets: [cpu-int4, {name: mine, like: cuda-int4}]
matrix:
  customer:
    acme: {data.train: acme.jsonl, data: {test: acme.test.jsonl}}
    zeta: {adapter: adapters/zeta}
"""


def test_every_choice_goes_with_every_target(tmp_path: Path) -> None:
    found = cells(tmp_path, CUSTOMERS)
    assert [cell.name for cell in found] == [
        *("acme/cpu-int4", "acme/mine", "zeta/cpu-int4", "zeta/mine")
    ]
    for cell in found:
        assert [target.name for target in cell.recipe.recipe.targets] == [cell.target]
        assert cell.recipe.recipe.matrix == {}
        assert cell.recipe.folder == tmp_path
        assert cell.recipe.adapter_name == cell.choices["customer"]
    assert found[1].recipe.recipe.targets[0].like == "cuda-int4"


def test_a_choice_sets_its_keys_and_an_adapter_leaves_training_aside(tmp_path: Path) -> None:
    acme, _, zeta, _ = (cell.recipe.recipe for cell in cells(tmp_path, CUSTOMERS))
    assert (acme.training.max_steps, acme.adapter) == (3, None)
    # A section that is named takes what it says and keeps the rest.
    assert (acme.data.train, acme.data.test) == ("acme.jsonl", "acme.test.jsonl")
    assert acme.data.system == zeta.data.system == "Be brief."
    assert zeta.adapter == "adapters/zeta"
    assert not {"method", "training"} & zeta.model_fields_set


def test_values_of_a_key_have_names(tmp_path: Path) -> None:
    text = """
matrix:
  adapter: [adapters/acme, ../zeta/]
  quantize.block_size: [16, 32]
  quantize.max_bytes: [null, 105MB]
  merge.save: [true]
"""
    found = cells(tmp_path, text)
    assert len(found) == 8
    assert found[0].name == "acme/block_size-16/max_bytes-none/save-true/cpu-int4"
    assert found[-1].name == "zeta/block_size-32/105MB/save-true/cpu-int4"
    last = found[-1].recipe.recipe
    assert (last.adapter, last.quantize.block_size) == ("../zeta/", 32)
    assert last.quantize.max_bytes == 105_000_000


def test_overrides_reach_every_cell_unless_it_says_otherwise(tmp_path: Path) -> None:
    text = "matrix: {method.rank: [8, 16]}"
    found = cells(tmp_path, text, "method.rank=4", "method.alpha=2", "targets=cpu-int8")
    assert [cell.name for cell in found] == ["rank-8/cpu-int8", "rank-16/cpu-int8"]
    assert [cell.recipe.recipe.method.rank for cell in found] == [8, 16]
    assert {cell.recipe.recipe.method.alpha for cell in found} == {2.0}


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        ([], ["acme/cpu-int4", "acme/mine", "zeta/cpu-int4", "zeta/mine"]),
        (["zeta/mine"], ["zeta/mine"]),
        (["zeta"], ["zeta/cpu-int4", "zeta/mine"]),
        (["*/mine", "acme/"], ["acme/cpu-int4", "acme/mine", "zeta/mine"]),
    ],
)
def test_cells_are_chosen_by_name_beginning_or_pattern(
    tmp_path: Path, only: list[str], wanted: list[str]
) -> None:
    assert [cell.name for cell in chosen_cells(cells(tmp_path, CUSTOMERS), only)] == wanted


def test_an_unknown_cell_names_its_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"--only: zeta/min: no such cell; did you mean zeta/mine\?"
    ):
        chosen_cells(cells(tmp_path, CUSTOMERS), ["zeta/min"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("matrix: {method.rank: 8}", "matrix.method.rank: input should be a valid list or a "),
        ("matrix: {method.rank: []}", "matrix.method.rank: "),
        ("matrix: {customer: {a: 3}}", "matrix.customer.a: input should be a valid dictionary"),
        ("matrix: {customer: {a/b: {}}}", "matrix.customer.a/b"),
        ("matrix: {customer: {..: {}}}", "matrix.customer..."),
        ("matrix: {targets: [a, b]}", "matrix.targets: every cell is built for every target"),
        ("matrix: {matrix: [a]}", "a matrix can't contain a matrix"),
        ("matrix: {a: {b: {matrix.c: [1]}}}", "matrix.c: a matrix can't contain a matrix"),
        ("matrix: {method.rnk: [8]}", "matrix: rnk-8: method.rnk: no such key; did you mean rank?"),
        ("matrix: {method.rank: [0]}", "matrix: rank-0: method.rank: input should be greater"),
        ("matrix: {model.name: [x]}", "matrix.model.name.x: model.name: model is not a mapping"),
        ("matrix: {adapter: [a/x, b/x]}", "matrix.adapter: two values are called x; name them"),
        ("matrix: {data.tokens: [[a]]}", "matrix.data.tokens: ['a'] has no name; name it"),
        (
            "adapter: a\nmatrix: {method.rank: [8]}",
            "matrix: rank-8: remove `method`: an adapter is given",
        ),
    ],
)
def test_what_makes_no_cell_is_said_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        cells(tmp_path, text)
    assert message in str(caught.value)
    assert str(tmp_path / "recipe.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("matrix", "valid"),
    [
        ({"method.rank": [8, 16], "customer": {"acme": {"data.train": "x"}}}, True),
        ({"method.rank": 8}, False),
        ({"method.rank": []}, False),
        ({"customer": {}}, False),
        ({"customer": {"acme": "x"}}, False),
    ],
)
def test_the_schema_says_the_same(matrix: Any, valid: bool) -> None:
    checker = jsonschema.Draft202012Validator(json_schema())
    assert checker.is_valid({"model": "m", "matrix": matrix}) is valid


def test_a_resolved_recipe_has_the_same_cells(tmp_path: Path) -> None:
    """A run's folder goes on with the matrix that it was begun with."""
    before = cells(tmp_path, CUSTOMERS)
    resolved = tmp_path / "resolved.yaml"
    recipe = load_recipe(tmp_path / "recipe.yaml")
    resolved.write_text(recipe.resolved_yaml())
    after = cells_of(load_recipe(resolved))
    assert [cell.name for cell in after] == [cell.name for cell in before]
    assert [cell.recipe.digest() for cell in after] == [cell.recipe.digest() for cell in before]
    assert yaml.safe_load(recipe.resolved_yaml())["matrix"]["customer"]["zeta"]


HUGE = {
    "a million cells": (
        "matrix: {training.seed: SOME, training.warmup_steps: SOME, data.max_length: SOME}",
        "matrix: 1000000 cells; the limit is 10000",
    ),
    "as many by its targets": (
        "targets: [SOME]\nmatrix: {training.seed: SOME, training.warmup_steps: [1, 2]}",
        "matrix: more than 10000 cells",
    ),
    "cells of a long recipe": (
        "data: {tokens: [MANY]}\nmatrix: {training.seed: SOME, training.warmup_steps: [1, 2, 3, 4]}",
        "are too large to plan; shorten",
    ),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_matrix_that_would_take_for_ever_is_refused_at_once(tmp_path: Path, name: str) -> None:
    text, message = HUGE[name]
    some = "[" + ", ".join(str(number + 8) for number in range(100)) + "]"
    targets = ", ".join(f"t{number}" for number in range(100))
    many = ", ".join(f"t{number}" for number in range(9000))
    text = text.replace("[SOME]", f"[{targets}]").replace("[MANY]", f"[{many}]")
    started = time.perf_counter()
    with pytest.raises(InputError) as caught:
        cells(tmp_path, text.replace("SOME", some))
    assert message in str(caught.value)
    assert time.perf_counter() - started < 10


def test_a_name_among_very_many_is_told_in_a_line(tmp_path: Path) -> None:
    text = "matrix: {training.seed: [" + ", ".join(map(str, range(500))) + "]}"
    with pytest.raises(InputError, match=r"did you mean .* \(500 in all\)") as caught:
        chosen_cells(cells(tmp_path, text), ["seed-1/cpu-int9"])
    assert len(str(caught.value)) < 2000
