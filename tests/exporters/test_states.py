"""Graphs that keep states of what they have read: carried from piece to piece, and never taken back unseen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepeft.data.rows import Message
from edgepeft.errors import EdgepeftError
from edgepeft.runtime import Bundle, GraphSession, Runtime, decoder_session
from edgepeft.runtime.cache_states import CacheStates
from edgepeft.runtime.decoder_session import Read
from edgepeft.runtime.devices import CPU, WEBGPU
from edgepeft.runtime.lookup import Guesser, Lookup
from edgepeft.runtime.plain import PlainModel
from edgepeft.runtime.search_options import GREEDY
from edgepeft.runtime.speculation import SpeculativeGenerator
from tests.exporters.test_decoder import IDS
from tests.runtimes import PROMPTS
from tests.stages import Find

FP32 = ("lfm2", "cpu-fp32")
PIECES = (1, 2, 1, 5, 16, 3)


def in_pieces(read: Read, ids: list[int]) -> np.ndarray[Any, Any]:
    """Logits float32 [T, V] of ids that are read in pieces of many lengths."""
    rows, start = [], 0
    for size in PIECES * len(ids):
        if start < len(ids):
            rows.append(read(ids[start : start + size], start))
            start += size
    return np.concatenate(rows)


def test_a_text_in_pieces_is_the_text_as_a_whole(built: Find) -> None:
    session = GraphSession(Bundle.open(built(*FP32)), threads=1)
    whole = session.logits(IDS)
    read = session.reader(len(IDS))
    np.testing.assert_allclose(in_pieces(read, IDS), whole, atol=1e-5, rtol=0)
    # The next text begins from nothing, whatever was read before.
    np.testing.assert_allclose(in_pieces(read, IDS), whole, atol=1e-5, rtol=0)
    with pytest.raises(EdgepeftError, match=rf"after {len(IDS)} tokens.* go on after 7$"):
        read(IDS[7:], 7)


def test_a_state_that_is_not_carried_would_show(built: Find) -> None:
    session = GraphSession(Bundle.open(built(*FP32)), threads=1)
    whole = session.logits(IDS)
    states = [one for one in session.cache_tensors if not one.grows]
    assert [one.shape for one in states] == [(1, 64, 2)] * 2
    cache, rows = None, []
    for index, token in enumerate(IDS):
        logits, cache = session.read([token], cache, index, {})
        rows.append(logits)
        for place, one in enumerate(session.cache_tensors):
            if not one.grows:
                cache[place] = one.empty()
    assert np.abs(np.stack(rows) - whole)[1:].max(-1).min() > 1e-2


@pytest.mark.parametrize("kept", [0, 1, 9, len(IDS) - 2, len(IDS) - 1])
def test_the_plain_engine_reads_again_what_it_cannot_take_back(built: Find, kept: int) -> None:
    model = PlainModel(Bundle.open(built(*FP32)), (), threads=1)
    fresh, rewound = (model.generator(2 * len(IDS), GREEDY) for _ in range(2))
    other = [*IDS[:kept], *reversed(IDS)]
    fresh.append_tokens(other)
    rewound.append_tokens(IDS)
    rewound.generate_next_token()
    left = rewound.rewind_to(kept)
    assert left in (0, kept)
    rewound.append_tokens(other[left:])
    np.testing.assert_allclose(rewound.get_logits(), fresh.get_logits(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("device", [CPU, WEBGPU])
def test_the_last_pass_can_be_taken_back(
    built: Find, device: str, request: pytest.FixtureRequest
) -> None:
    if device == WEBGPU:
        request.getfixturevalue("webgpu")
    session = GraphSession(Bundle.open(built("lfm2", "webgpu-int4-fp32")), providers=[device])
    read, wanted = session.reader(64), session.logits([*IDS[:9], *IDS[20:24]])[9:]
    for ids, past in ((IDS[:4], 0), (IDS[4:9], 4), (IDS[9:15], 9)):
        read(ids, past)
    assert [read.kept(length) for length in (15, 14, 9, 8, 0)] == [15, 9, 9, 0, 0]
    for _ in range(2):
        np.testing.assert_allclose(read(IDS[20:24], 9), wanted, atol=1e-4, rtol=0)
        assert [read.kept(length) for length in (13, 10, 8)] == [13, 9, 0]


@pytest.mark.parametrize("layout", ["cpu-int4", "cpu-int4-onnxruntime"])
def test_a_chat_goes_on_as_if_it_began_anew(built: Find, layout: str) -> None:
    bundle = built("lfm2", layout)
    runtime = Runtime(bundle, threads=1)
    turns: list[Message] = [{"role": "user", "content": "What is the colour of grass?"}]
    for question in ("And snow?", "Turn on the light."):
        answer = runtime.complete(turns, max_new_tokens=8).text
        turns += [
            {"role": "assistant", "content": answer},
            {"role": "user", "content": question},
        ]
        found = runtime.complete(turns, max_new_tokens=8).ids
        assert found == Runtime(bundle, threads=1).complete(turns, max_new_tokens=8).ids


@pytest.mark.parametrize("target", ["cpu-fp32", "cpu-int4", "cpu-int4-onnxruntime"])
def test_guessed_tokens_are_taken_back(built: Find, target: str) -> None:
    bundle = built("lfm2", target)
    guessing, plain = Runtime(bundle, threads=1, speculate=True), Runtime(bundle, threads=1)
    asked = [prompt for prompt in PROMPTS[:6] for _ in range(2)]
    for prompt in asked:
        # What came before is guessed again, rightly up to where another word turns the answer.
        wanted = plain.complete(prompt, max_new_tokens=40).ids
        assert guessing.complete(prompt, max_new_tokens=40).ids == wanted
    turns: list[Message] = [{"role": "user", "content": PROMPTS[0]}]
    for question in PROMPTS[1:3]:
        turns.append({"role": "assistant", "content": plain.complete(turns, max_new_tokens=8).text})
        turns.append({"role": "user", "content": question})
        wanted = plain.complete(turns, max_new_tokens=8).ids
        assert guessing.complete(turns, max_new_tokens=8).ids == wanted


def guessed_rightly(bundle: Path) -> Iterator[bool]:
    """Whether answers of 60 tokens, guessed rightly but for one, are the plain one, and in fewer steps."""
    model = PlainModel(Bundle.open(bundle), (), threads=1)
    answer = model.generator(200, GREEDY)
    answer.append_tokens(IDS)
    for _ in range(60):
        answer.generate_next_token()
    wanted = answer.get_sequence(0)[len(IDS) :].tolist()
    for spoilt in (None, 7, 20, 33):
        lookup = Lookup()
        earlier = Guesser(lookup, IDS)
        for place, token in enumerate(wanted):
            earlier.push(5 if place == spoilt else token)
        earlier.done()
        found = SpeculativeGenerator(model.generator(200, GREEDY), 200, lookup)
        found.append_tokens(IDS)
        for _ in range(60):
            found.generate_next_token()
        yield found.get_sequence(0)[len(IDS) :].tolist() == wanted and found.steps < 50


def test_a_wrong_guess_leaves_no_trace(built: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(guessed_rightly(built(*FP32)))

    class ForwardAlone(CacheStates):
        def __init__(self, model_file: Path, now: Any, **more: Any) -> None:
            super().__init__(model_file, now, **more)
            self.now = now

        def kept(self, length: int) -> int:
            return length

        def begin(self, past: int, count: int) -> None:
            for state in self.now if past == 0 else ():
                state.fill(0)

    # A state that is not set back turns the answer.
    monkeypatch.setattr(decoder_session, "CacheStates", ForwardAlone)
    assert not all(guessed_rightly(built(*FP32)))


def test_no_bundle_claims_a_runtime_that_feeds_no_states(built: Find) -> None:
    bundle = Bundle.open(built("lfm2", "cpu-int4"))
    assert bundle.keeps_states
    assert bundle.runtimes == ("onnxruntime-genai", "onnxruntime", "transformers.js")
    assert not Bundle.open(built("llama", "cpu-int4")).keeps_states
    config = json.loads((bundle.path / "config.json").read_text())
    assert config["layer_types"] == ["conv", "full_attention", "conv"]


@pytest.fixture
def on_webgpu(built: Find, webgpu: str) -> Path:
    return built("lfm2", "webgpu-int4-fp32")


def test_webgpu_keeps_the_states(on_webgpu: Path) -> None:
    device = GraphSession(Bundle.open(on_webgpu))
    cpu = GraphSession(Bundle.open(on_webgpu), providers=[CPU])
    assert device.provider == WEBGPU
    wanted = cpu.logits(IDS[:40])
    assert np.abs(in_pieces(device.reader(40), IDS[:40]) - wanted).max() < 1e-3
    read = device.reader(40)
    read(IDS[:5], 0)
    with pytest.raises(EdgepeftError, match="after 5 tokens, and it was asked to go on after 3"):
        read(IDS[3:5], 3)
    assert np.abs(in_pieces(read, IDS[:40]) - wanted).max() < 1e-3
    # More tokens than software's kernel takes at once: onnxruntime-genai is handed them in parts.
    assert Runtime(on_webgpu).generate_ids(IDS, max_new_tokens=6) == cpu.greedy(IDS, 6, ())
