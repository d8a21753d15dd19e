"""What the graph builder is told of a configuration, and the files it leaves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgepeft.errors import EdgepeftError
from edgepeft_exporters.decoder.graph import flatten_rope, name_sliding_layers

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
    flatten_rope(given)
    assert given.rope_parameters == FULL
    assert (given.rope_theta, given.rope_local_base_freq) == (1e6, 1e4)


def test_local_frequency_is_the_full_one_where_none_is_given() -> None:
    given = config(rope_parameters={"full_attention": FULL})
    flatten_rope(given)
    assert given.rope_local_base_freq == 1e6


def test_scaling_of_some_layers_only_is_refused() -> None:
    scaled = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
    with pytest.raises(EdgepeftError, match="Gemma3ForCausalLM: linear rotary scaling on some"):
        flatten_rope(config(rope_parameters={"full_attention": scaled}))


@pytest.mark.parametrize("parameters", [None, {}, {"rope_theta": 1e4}])
def test_flat_settings_stay_as_they_are(parameters: Any) -> None:
    given = config(rope_parameters=parameters)
    flatten_rope(given)
    assert given.rope_parameters == parameters


def test_the_kind_is_also_said_under_its_older_key() -> None:
    given = config(rope_parameters={"rope_type": "longrope"})
    flatten_rope(given)
    assert given.rope_parameters == {"rope_type": "longrope", "type": "longrope"}


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
