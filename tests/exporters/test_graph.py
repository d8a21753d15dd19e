"""What the graph builder is told of a configuration, and the files it leaves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import transformers

from edgepeft.errors import EdgepeftError
from edgepeft_exporters.compat.builder_config import flatten_rope, name_sliding_layers
from tests.exporters.chain import LONGROPE

FULL = {"rope_type": "default", "rope_theta": 1e6}


def config(**settings: Any) -> SimpleNamespace:
    return SimpleNamespace(architectures=["Gemma3ForCausalLM"], num_hidden_layers=3, **settings)


def test_rotary_settings_for_each_kind_of_layer_become_flat() -> None:
    given = config(
        rope_parameters={
            "full_attention": FULL,
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        }
    )
    flatten_rope(given, own_tables=False)
    assert given.rope_parameters == FULL
    assert (given.rope_theta, given.rope_local_base_freq) == (1e6, 1e4)


def test_local_frequency_is_the_full_one_where_none_is_given() -> None:
    given = config(rope_parameters={"full_attention": FULL})
    flatten_rope(given, own_tables=False)
    assert given.rope_local_base_freq == 1e6


def test_scaling_of_some_layers_only_is_refused() -> None:
    scaled = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
    with pytest.raises(EdgepeftError, match="Gemma3ForCausalLM: linear rotary scaling on some"):
        flatten_rope(config(rope_parameters={"full_attention": scaled}), own_tables=False)


@pytest.mark.parametrize("parameters", [None, {}, {"rope_theta": 1e4}])
def test_flat_settings_stay_as_they_are(parameters: Any) -> None:
    given = config(rope_parameters=parameters)
    flatten_rope(given, own_tables=False)
    assert given.rope_parameters == parameters


def test_the_kind_is_also_said_under_its_older_key() -> None:
    given = config(rope_parameters={"rope_type": "llama3"})
    flatten_rope(given, own_tables=False)
    assert given.rope_parameters == {"rope_type": "llama3", "type": "llama3"}


@pytest.mark.parametrize(
    ("extra", "scale"), [({"attention_factor": 1.7}, 1.7), ({"factor": 1}, 1.0)]
)
def test_long_rope_is_scaled_as_transformers_scales_it(extra: dict[str, Any], scale: float) -> None:
    given = transformers.Phi3Config(
        hidden_size=64,
        num_attention_heads=4,
        max_position_embeddings=512,
        original_max_position_embeddings=32,
        rope_parameters={**LONGROPE, **extra},
    )
    flatten_rope(given, own_tables=False)
    assert given.rope_parameters["short_mscale"] == given.rope_parameters["long_mscale"] == scale


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"sliding_window": 16}, ["sliding_attention"] * 3),
        ({"sliding_window": None}, None),
        ({}, None),
        ({"sliding_window": 16, "layer_types": ["full_attention"] * 3}, ["full_attention"] * 3),
    ],
)
def test_one_window_for_all_layers_is_said_of_each(settings: Any, expected: Any) -> None:
    given = config(**settings)
    name_sliding_layers(given)
    assert getattr(given, "layer_types", None) == expected
