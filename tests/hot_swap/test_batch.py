"""One batch, several adapters: every row answers as its adapter does alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepeft.errors import InputError
from edgepeft.runtime import Bundle, Runtime
from edgepeft.runtime.batch import BatchDecoder, BatchRequest
from tests.hot_swap.chain import ADAPTERS

PROMPTS = [
    "What is the colour of grass?",
    "Snow?",
    "Turn on the light in the kitchen, then set the heater in the bedroom.",
]


def test_mixed_rows_answer_as_alone(filled: Path) -> None:
    """Adapters of different ranks, the base among them, prompts and answers of different lengths."""
    bundle = Bundle.open(filled)
    runtime = Runtime(bundle, threads=1)
    stop_ids = runtime.prompter.stop_ids
    asked = [
        (name, runtime.prompter.prompt([{"role": "user", "content": prompt}]), 10 + 3 * index)
        for index, (name, prompt) in enumerate(
            (name, prompt) for prompt in PROMPTS for name in ("base", *ADAPTERS)
        )
    ]
    alone = [
        runtime.generate_ids(ids, max_new_tokens=most, adapter=name) for name, ids, most in asked
    ]
    decoder = BatchDecoder(bundle, threads=1)
    answers = decoder.generate(
        [BatchRequest(ids, most, name) for name, ids, most in asked], stop_ids
    )
    assert answers == alone
    assert len({tuple(answer[:6]) for answer in alone}) > 6
    # One adapter for all rows takes another way through the graph.
    same = [BatchRequest(asked[1][1], 12, "one"), BatchRequest(asked[5][1], 12, "one")]
    assert decoder.generate(same, stop_ids) == [
        runtime.generate_ids(asked[at][1], max_new_tokens=12, adapter="one") for at in (1, 5)
    ]


def test_what_a_batch_cannot_hold_is_refused(filled: Path, tiny_bundle: Path) -> None:
    decoder = BatchDecoder(filled, threads=1)
    with pytest.raises(InputError, match="has no requests"):
        decoder.generate([], ())
    with pytest.raises(InputError, match="no such adapter"):
        decoder.generate([BatchRequest([5, 9], 4, "nobody")], ())
    with pytest.raises(InputError, match="do not fit into a context of 512"):
        decoder.generate([BatchRequest([5, 9], 600)], ())
    with pytest.raises(InputError, match="takes no adapters"):
        BatchDecoder(tiny_bundle, threads=1)
