"""The keys of the typed dictionary are those that transformers computes rotary frequencies from."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from edgepeft.compat.transformers_rotary_keys import rotary_keys

SETTINGS: dict[str, dict[str, object]] = {
    "linear": {"factor": 4.0},
    "yarn": {"factor": 4.0, "beta_fast": 16.0, "attention_factor": 1.5},
    "llama3": {
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
    "longrope": {
        "factor": 4.0,
        "short_factor": [1.0] * 4,
        "long_factor": [2.0] * 4,
        "original_max_position_embeddings": 16,
    },
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_key_that_changes_frequencies_is_known(kind: str) -> None:
    settings = {"rope_type": kind, "rope_theta": 10000.0, **SETTINGS[kind]}
    assert settings.keys() <= rotary_keys()
    config = LlamaConfig(
        hidden_size=16, num_attention_heads=2, max_position_embeddings=64, rope_parameters=settings
    )
    frequencies, _ = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), seq_len=64)
    plain = 1.0 / 10000.0 ** (torch.arange(0, 8, 2) / 8)
    assert frequencies.shape == plain.shape
    assert not torch.allclose(frequencies, plain)


def test_what_nobody_reads_is_not_known() -> None:
    assert {"rope_type", "rope_theta", "partial_rotary_factor"} <= rotary_keys()
    assert not rotary_keys() & {"type", "mrope_sections_of_mine"}
