"""Several adapters in one loaded runtime: swapped, shared by answers, and kept within a budget."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edgepeft.errors import EdgepeftError, InputError
from edgepeft.runtime import BatchRuntime, Bundle, GraphSession, Runtime
from edgepeft.runtime.adapters import open_adapter
from tests.hot_swap.chain import ADAPTERS

PROMPT = "What is the colour of grass?"


def answers(runtime: Runtime) -> dict[str, str]:
    return {
        name: runtime.complete(PROMPT, adapter=name, max_new_tokens=24).text
        for name in ("base", *ADAPTERS)
    }


def test_swapping_changes_who_answers(filled: Path) -> None:
    runtime = Runtime(filled, threads=1)
    assert runtime.adapters == sorted(ADAPTERS)
    assert runtime.adapter is None
    wanted = answers(runtime)
    assert len(set(wanted.values())) == len(wanted)
    for name in ("one", "two", None, "few", "one"):
        runtime.swap_adapter(name)
        assert runtime.adapter == name
        assert runtime.complete(PROMPT, max_new_tokens=24).text == wanted[name or "base"]
    runtime.unload_adapter("one")
    assert runtime.adapter is None
    assert runtime.complete(PROMPT, max_new_tokens=24).text == wanted["base"]


def test_a_swap_leaves_answers_under_way_alone(filled: Path) -> None:
    """Every step of a stream beside swaps, other answers and an attempt to unload its adapter."""
    runtime = Runtime(filled, threads=1)
    wanted = answers(runtime)
    runtime.swap_adapter("one")
    stream = runtime.stream(PROMPT, max_new_tokens=24, stop=["@@@@@@"])
    pieces = []
    for turn, piece in enumerate(stream):
        pieces.append(piece)
        runtime.swap_adapter(("two", "few", None)[turn % 3])
        assert runtime.complete(PROMPT, max_new_tokens=3).ids
        if turn == 1:
            with pytest.raises(InputError, match="is in use"):
                runtime.unload_adapter("one")
    assert len(pieces) > 4
    assert "".join(pieces) == wanted["one"]


def test_a_conversation_does_not_go_on_in_another_adapters_cache(filled: Path) -> None:
    runtime = Runtime(filled, threads=1)
    first = runtime.complete(PROMPT, adapter="one", max_new_tokens=8).text
    turns = [
        {"role": "user", "content": PROMPT},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "And of snow?"},
    ]
    fresh = Runtime(filled, threads=1).complete(turns, adapter="two", max_new_tokens=8)  # type: ignore[arg-type]
    assert runtime.complete(turns, adapter="two", max_new_tokens=8).ids == fresh.ids  # type: ignore[arg-type]


def test_each_adapter_has_its_own_scores(filled: Path) -> None:
    """Beside the log-softmax of its graph's own logits, one by one and beside a batch; nothing stays in use."""
    bundle, runtime = Bundle.open(filled), Runtime(filled, threads=1)
    batch = BatchRuntime(filled, rows=2, threads=1)
    sums = set()
    try:
        for name in ("base", *ADAPTERS):
            factors = None if name == "base" else open_adapter(bundle, name).factors
            graph = GraphSession(bundle, threads=1, adapter=factors)
            for engine in (runtime, batch):
                score = engine.score(PROMPT, "a blue one, or green", adapter=name)
                ids = [token.id for token in score.tokens]
                logits = graph.logits([*score.prompt_ids, *ids])[len(score.prompt_ids) - 1 : -1]
                nats = logits.astype(np.float64)
                nats -= np.log(np.exp(nats).sum(-1, keepdims=True))
                assert [token.logprob for token in score.tokens] == pytest.approx(
                    nats[np.arange(len(ids)), ids].tolist(), abs=1e-4
                )
                done = engine.complete(PROMPT, adapter=name, max_new_tokens=6, logprobs=0)
                again = engine.score_ids(done.prompt_ids, done.ids, adapter=name)
                assert again.nats == pytest.approx(sum(one.logprob for one in done.logprobs))
            sums.add(round(score.nats, 3))
        assert len(sums) == 1 + len(ADAPTERS)
        with pytest.raises(InputError):
            batch.score(PROMPT, "x", adapter="nobody")
        assert runtime.score(PROMPT, "x", adapter="base").nats == pytest.approx(
            batch.score(PROMPT, "x").nats, abs=1e-4
        )
        # The kept cache of the last answer aside, nobody has an adapter any more.
        runtime.complete("x", adapter="base", max_new_tokens=1)
        for name in ADAPTERS:
            runtime.unload_adapter(name)
    finally:
        batch.close()


def test_the_least_recently_used_makes_way(filled: Path) -> None:
    bundle = Bundle.open(filled)
    sizes = {name: open_adapter(bundle, name).bytes for name in ADAPTERS}
    runtime = Runtime(bundle, threads=1, adapter_bytes=sizes["two"] + sizes["one"])
    wanted = answers(Runtime(bundle, threads=1))
    runtime.load_adapter("one")
    runtime.load_adapter("two")
    runtime.load_adapter("one")
    assert runtime.loaded_adapters == ["two", "one"]
    runtime.load_adapter("few")
    assert runtime.loaded_adapters == ["one", "few"]
    assert answers(runtime) == wanted
    # What an answer is using does not make way.
    small = Runtime(bundle, threads=1, adapter_bytes=sizes["two"])
    stream = small.stream(PROMPT, adapter="two", max_new_tokens=24, stop=["@@@@@@"])
    first = next(stream)
    with pytest.raises(EdgepeftError, match="adapters in use fill"):
        small.load_adapter("one")
    assert first + "".join(stream) == wanted["two"]
    with pytest.raises(InputError, match="more than the 10"):
        Runtime(bundle, threads=1, adapter_bytes=10).load_adapter("one")


def test_prefetching_loads_in_the_background(filled: Path) -> None:
    runtime = Runtime(filled, threads=1)
    runtime.prefetch_adapter("two")
    deadline = time.monotonic() + 10
    while runtime.loaded_adapters != ["two"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert runtime.loaded_adapters == ["two"]
    for ask in (runtime.load_adapter, runtime.prefetch_adapter):
        with pytest.raises(InputError, match="no such adapter"):
            ask("nobody")


def test_a_merged_bundle_has_no_adapters(tiny_bundle: Path) -> None:
    runtime = Runtime(tiny_bundle, threads=1)
    assert runtime.adapters == []
    with pytest.raises(InputError, match="adapters: hot-swap"):
        runtime.swap_adapter("one")
