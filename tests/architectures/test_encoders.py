"""Encoders with each option of their configurations are exported exactly."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from edgepeft.checkpoints.declared_config import (
    READ_OF_THE_MODEL,
    READ_UNDECLARED,
    declared_keys,
)
from edgepeft_exporters.encoder import EXPORTER, MODEL_TYPES
from tests.architectures import record
from tests.architectures.encoders import CASES
from tests.stages import Find, carried_once


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Find:
    return carried_once("tests.architectures.encoders", tmp_path_factory)


@pytest.mark.parametrize("case", CASES)
def test_float_bundle_is_the_model(carried: Find, case: str) -> None:
    found = json.loads((carried(case, "out").parent / "result.json").read_text())
    assert found["spread"] > 0.05
    assert max(found["differences"]) < 5e-5
    assert found["padded"] < 5e-5


def test_the_table_of_encoders_is_of_this_matrix(carried: Find) -> None:
    def result(case: str) -> Any:
        return json.loads((carried(case, "out").parent / "result.json").read_text())

    by_family: dict[str, list[str]] = {}
    for name, case in CASES.items():
        by_family.setdefault(case.family, []).append(name)
    if record.recording():
        of_family = (record.encoder(*items, result) for items in by_family.items())
        record.keep("encoder", of_family)
    table = EXPORTER.proven()
    assert {one.family: one.configurations for one in table} == {
        family: len(names) for family, names in by_family.items()
    }
    assert max(one.difference for one in table) < 5e-5


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_what_a_models_code_reads_of_its_configuration_is_kept(kind: str) -> None:
    """A key that is read by name and not declared would be taken off, and the graph another model's."""
    config = CONFIG_MAPPING[kind]
    module = importlib.import_module(config.__module__.replace("configuration_", "modeling_"))
    asked = set(re.findall(r"getattr\(config, \"(\w+)\"", inspect.getsource(module)))
    kept = declared_keys(config) | READ_UNDECLARED | READ_OF_THE_MODEL.get(kind, frozenset())
    # Of every configuration, set by what calls the model.
    assert asked <= kept | {"num_labels", "is_decoder", "add_cross_attention", "use_cache"}
