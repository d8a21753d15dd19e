"""Bundles without onnxruntime-genai's configuration: plain onnxruntime answers, chats and samples."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgepeft.data.rows import Message
from edgepeft.errors import InputError
from edgepeft.runtime import Bundle, Runtime
from edgepeft.runtime.plain import PlainModel
from edgepeft.runtime.sampling import Sampler
from edgepeft.runtime.sampling_params import SamplingParams
from edgepeft.runtime.search_options import GREEDY, search_options
from tests.runtime.fabricate import edit_json

PROMPTS = ["What is the colour of grass?", "Turn on the light", "日本語 🙂", "x"]


@pytest.mark.parametrize("speculate", [False, True])
def test_answers_and_chats_are_those_of_the_whole_bundle(
    tiny_bundle: Path, without_genai: Path, speculate: bool
) -> None:
    whole = Runtime(tiny_bundle, threads=1)
    plain = Runtime(without_genai, threads=1, speculate=speculate)
    for prompt in PROMPTS:
        wanted = whole.complete(prompt, max_new_tokens=40)
        found = plain.complete(prompt, max_new_tokens=40)
        assert (found.ids, found.text) == (wanted.ids, wanted.text)
    turns: list[Message] = [{"role": "user", "content": PROMPTS[0]}]
    turns.append({"role": "assistant", "content": plain.complete(turns, max_new_tokens=8).text})
    turns.append({"role": "user", "content": PROMPTS[1]})
    assert (
        plain.complete(turns, max_new_tokens=8).ids == whole.complete(turns, max_new_tokens=8).ids
    )


def test_it_needs_no_genai(without_genai: Path) -> None:
    code = (
        "import sys; sys.modules['onnxruntime_genai'] = None\n"
        "from edgepeft.runtime import Runtime\n"
        f"print(Runtime({str(without_genai)!r}, threads=1).complete('x', max_new_tokens=4).ids)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) > 0


@pytest.mark.parametrize("temperature", [1e-320, 1e-300, 1e-9])
def test_the_lowest_temperature_takes_the_likeliest(temperature: float) -> None:
    options = search_options(SamplingParams(temperature=temperature), 4)
    logits = np.array([-900.0, 1.5e4, 1.4e4, -np.inf], np.float32)
    assert [Sampler(options, ()).choose(logits, [1]) for _ in range(5)] == [1] * 5


def test_sampling_repeats_itself_with_a_seed_only(without_genai: Path) -> None:
    runtime = Runtime(without_genai, threads=1)

    def ask(**settings: float | int | None) -> list[int]:
        return runtime.complete(PROMPTS[0], max_new_tokens=24, temperature=1.5, **settings).ids  # type: ignore[arg-type]

    greedy = runtime.complete(PROMPTS[0], max_new_tokens=24).ids
    assert ask(seed=1) == ask(seed=1)
    assert len({tuple(ask(seed=seed)) for seed in range(6)}) > 3
    assert ask(top_k=1) == greedy
    assert ask(top_p=1e-6) == greedy


def test_a_least_length_keeps_stop_tokens_away(without_genai: Path) -> None:
    bundle = Bundle.open(without_genai)
    everything = set(range(bundle.vocab_size)) - {7}
    model = PlainModel(bundle, everything, threads=1)
    generator = model.generator(24, {**GREEDY, "min_length": 20})
    generator.append_tokens([5, 6, 8])
    for _ in range(17):
        generator.generate_next_token()
    assert set(generator.get_sequence(0)[3:].tolist()) == {7}


def test_a_long_prompt_is_read_in_pieces(
    without_genai: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answer whether it is read at once or sixteen tokens at a time."""
    runtime = Runtime(without_genai, threads=1)
    whole = runtime.complete(PROMPTS[0] * 4, max_new_tokens=8).ids
    monkeypatch.setattr("edgepeft.runtime.pieces.PROMPT", 16)
    assert Runtime(without_genai, threads=1).complete(PROMPTS[0] * 4, max_new_tokens=8).ids == whole


def test_the_vocabulary_must_be_stated(without_genai: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(without_genai, folder)
    edit_json(folder / "edgepeft.json", "result.vocab_size", ...)
    with pytest.raises(InputError, match=r"result\.vocab_size must be a whole number"):
        Bundle.open(folder)
    edit_json(folder / "edgepeft.json", "result.runtimes", "all")
    with pytest.raises(InputError, match=r"result\.runtimes must be a list"):
        Bundle.open(folder)


# Choosing, by logits made by hand.

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))


def drawn(count: int = 400, **settings: float) -> set[int]:
    params = SamplingParams(**{"temperature": 1.0, "seed": 5, **settings})  # type: ignore[arg-type]
    options = search_options(params, vocab_size=4)
    sampler = Sampler(options, ())
    return {sampler.choose(LOGITS, [1]) for _ in range(count)}


def test_what_may_be_drawn() -> None:
    assert drawn() == {0, 1, 2, 3}
    assert drawn(top_k=2) == {0, 1}
    assert drawn(top_p=0.5) == {0}
    assert drawn(top_p=0.6) == {0, 1}
    assert drawn(temperature=0.01) == {0}


def test_what_came_before_is_penalized() -> None:
    options = search_options(SamplingParams(repetition_penalty=3.0), vocab_size=4)
    positive = np.array([2.0, 1.9, 0.1, -1.0], np.float32)
    assert Sampler(options, ()).choose(positive, [3]) == 0
    assert Sampler(options, ()).choose(positive, [0, 3]) == 1
    # A negative logit grows.
    assert Sampler(options, ()).choose(np.array([-1.0, -1.5], np.float32), [0]) == 1
