"""The table of PEFT's configuration keys against the PEFT that is installed: a new key of theirs fails here."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from edgepeft.adapters.config import read_adapter_config
from edgepeft.adapters.config_fields import (
    CARRIED,
    ENTRIES,
    FEWER,
    KNOWN,
    OF_TRAINING,
    REFUSED,
    SIZES,
    check_fields,
    field_notes,
)
from edgepeft.errors import InputError

WHERE = Path("adapter_config.json")
OLD = {"enable_lora", "merge_weights"}
"""Keys that PEFT no longer has and that adapters of its first years carry."""


def of_peft() -> set[str]:
    """The keys of every supported method's configuration."""
    pytest.importorskip("peft")
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    from edgepeft.adapters.bottleneck import register
    from edgepeft.adapters.methods import all_methods

    register()
    kinds = {method.peft_type for method in all_methods().values()} - {None}
    return {
        field.name
        for kind in kinds
        for field in dataclasses.fields(PEFT_TYPE_TO_CONFIG_MAPPING[kind])
    }


def test_every_key_of_peft_is_in_the_table_and_none_besides() -> None:
    assert of_peft() == KNOWN - OLD


def test_a_key_is_in_one_list_alone() -> None:
    assert not CARRIED & OF_TRAINING
    assert not (CARRIED | OF_TRAINING) & set(REFUSED)
    assert set(SIZES) <= CARRIED
    assert set(FEWER) <= CARRIED


def test_what_peft_writes_by_itself_passes() -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM").to_dict()
    plain = json.loads(json.dumps(config, default=lambda value: sorted(value)))
    check_fields(plain, WHERE)
    assert field_notes(plain) == []


@pytest.mark.parametrize("key", REFUSED)
def test_keys_that_change_the_model_are_refused_by_name_once_they_are_on(key: str) -> None:
    check_fields({key: None}, WHERE)
    check_fields({key: False}, WHERE)
    with pytest.raises(InputError, match=rf"^adapter_config\.json: {key}: "):
        check_fields({key: [[0, 2], [1, 2]]}, WHERE)


@pytest.mark.parametrize("value", [True, "on", ["q_proj"], {"kind": 1}])
def test_an_unknown_key_that_is_on_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="use_marvel: not known to this version, and may change"):
        check_fields({"use_marvel": value}, WHERE)


@pytest.mark.parametrize("value", [None, False, [], {}, "", 0])
def test_an_unknown_key_that_is_off_says_nothing(value: Any) -> None:
    check_fields({"use_marvel": value}, WHERE)
    assert field_notes({"use_marvel": value}) == []


def test_a_number_beside_an_unknown_switch_is_told_of() -> None:
    config = {"marvel_size": 16, "r": 4}
    check_fields(config, WHERE)
    assert field_notes(config) == ["marvel_size: not known here, and passed over"]


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"target_modules": ["q"] * (ENTRIES + 1)}, f"target_modules: {ENTRIES + 1} entries"),
        ({"rank_pattern": dict.fromkeys(map(str, range(5000)), 4)}, "rank_pattern: 5000 entries"),
        ({"modules_to_save": ["x"] * 501}, "modules_to_save: 501 entries, of which at most 500"),
        ({"num_vectors": 10**12}, "num_vectors: 1000000000000 is not from -1 to"),
        ({"num_vectors": 60_000, "vector_length": 60_000}, "num_vectors times vector_length"),
        ({"block_size": -5}, "block_size: -5 is not from -1 to"),
        ({"encoder_hidden_size": 1e9}, "encoder_hidden_size: 1000000000.0 is not from"),
        ({"target_modules": [1, 2]}, "target_modules: must be a list of names or a pattern"),
        ({"exclude_modules": [None]}, "exclude_modules: must be a list of names"),
    ],
)
def test_numbers_and_lists_without_bound(config: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        check_fields(config, WHERE)


@pytest.mark.parametrize(
    ("write", "match"),
    [
        (lambda path: path.write_text("[" * 1_000_000), "not valid JSON"),
        (lambda path: path.write_text('{"a":' * 100_000), "not valid JSON"),
        (lambda path: path.write_text('{"r": ' + "9" * 5000 + "}"), "not valid JSON"),
        (lambda path: path.write_text(" " * 17_000_000), "the limit for such a file"),
        (os.mkfifo, "is a (pipe|device), not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a (pipe|device), not a file"),
    ],
)
def test_configurations_that_are_no_settings(tmp_path: Path, write: Any, match: str) -> None:
    write(tmp_path / "adapter_config.json")
    with pytest.raises(InputError, match=match) as caught:
        read_adapter_config(tmp_path)
    assert "\n" not in str(caught.value)
