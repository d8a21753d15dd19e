"""Answers of a tiny real bundle: two runtimes agree, and streaming, stopping and chatting hold."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

from edgepeft.data.rows import Message
from edgepeft.errors import EdgepeftError, InputError, MissingError
from edgepeft.runtime import Bundle, Completion, GraphSession, Runtime, pieces
from edgepeft.runtime.engine import load_model, new_generator
from edgepeft.runtime.kv_cache import Cached, Caches
from edgepeft.runtime.sampling_params import OutOfRange, SamplingFields, SamplingParams
from edgepeft.runtime.search_options import GREEDY
from edgepeft.runtime.stopping import StopStrings
from tests.runtime.fabricate import edit_json, write_manifest

PROMPTS = ["What is the colour of grass?", "Turn on the light", "日本語 🙂", "x"]


@pytest.fixture(scope="module")
def runtime(tiny_bundle: Path) -> Runtime:
    return Runtime(tiny_bundle, threads=1)


@pytest.fixture(scope="module")
def graph(tiny_bundle: Path) -> GraphSession:
    return GraphSession(Bundle.open(tiny_bundle), threads=1)


# Two runtimes, one graph.


@pytest.mark.parametrize("prompt", PROMPTS)
def test_both_runtimes_give_the_same_tokens(
    runtime: Runtime, graph: GraphSession, prompt: str
) -> None:
    done = runtime.complete(prompt, max_new_tokens=48)
    ids = done.prompt_ids
    assert len(done.ids) > 8
    assert graph.greedy(ids, 48, runtime.prompter.stop_ids) == done.ids
    assert runtime.generate_ids(ids, max_new_tokens=48) == done.ids


def test_logits_of_every_position(runtime: Runtime, graph: GraphSession) -> None:
    done = runtime.complete(PROMPTS[0], max_new_tokens=16)
    ids = done.prompt_ids + done.ids
    logits = graph.logits(ids)
    assert logits.shape == (len(ids), graph.vocab_size)
    assert logits.dtype == np.float32
    start = len(done.prompt_ids) - 1
    assert logits[start:-1].argmax(-1).tolist() == done.ids


def test_a_model_file_alone_will_do(tiny_bundle: Path, graph: GraphSession) -> None:
    alone = GraphSession(tiny_bundle / "onnx/model_q4.onnx", threads=1)
    np.testing.assert_array_equal(alone.logits([1, 2, 3]), graph.logits([1, 2, 3]))


def test_logits_outlive_the_next_run(graph: GraphSession) -> None:
    first = graph.logits([5, 6, 7])
    kept = first.copy()
    graph.logits([9, 8, 7])
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("ids", [[], [-1], [512]])
def test_ids_the_graph_does_not_know(graph: GraphSession, runtime: Runtime, ids: list[int]) -> None:
    with pytest.raises(InputError, match="token ids"):
        graph.logits(ids)
    with pytest.raises(InputError, match="token ids"):
        runtime.generate_ids(ids, max_new_tokens=1)


# Streaming and stopping.


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_the_stream_adds_up(runtime: Runtime, prompt: str, length: int) -> None:
    stream = runtime.stream(prompt, max_new_tokens=length)
    text = "".join(stream)
    done = stream.completion()
    assert text == done.text == runtime.complete(prompt, max_new_tokens=length).text
    assert text == runtime.prompter.decode(done.ids)
    assert done.finish_reason == "length"
    assert len(done.ids) == length


def test_a_completion_is_timed(runtime: Runtime) -> None:
    done = runtime.complete("x", max_new_tokens=10)
    assert done.prefill_seconds > 0
    assert done.decode_seconds > 0
    assert done.tokens_per_second == pytest.approx(9 / done.decode_seconds)
    assert runtime.complete("x", max_new_tokens=1).tokens_per_second == 0


def _stopping_at(folder: Path, runtime: Runtime, done: Completion, place: int) -> Path:
    """The bundle again, with the answer's token at ``place`` among the stop tokens."""
    shutil.copytree(runtime.bundle.path, folder)
    eos = [*sorted(runtime.prompter.stop_ids), done.ids[place]]
    edit_json(folder / "generation_config.json", "eos_token_id", eos)
    write_manifest(folder, context_length=512)
    return folder


def test_a_stop_id_ends_the_answer_and_is_no_part_of_it(runtime: Runtime, tmp_path: Path) -> None:
    done = runtime.complete(PROMPTS[0], max_new_tokens=30)
    place = next(i for i in range(5, 30) if done.ids[i] not in done.ids[:i])
    # genai_config.json still names the old stop ids: the prompter's are the ones that count.
    stopping = Runtime(_stopping_at(tmp_path / "bundle", runtime, done, place), threads=1)
    short = stopping.complete(PROMPTS[0], max_new_tokens=30)
    assert short.finish_reason == "stop"
    assert short.ids == done.ids[:place]
    assert stopping.generate_ids(short.prompt_ids, max_new_tokens=30) == short.ids
    session = GraphSession(stopping.bundle, threads=1)
    assert session.greedy(short.prompt_ids, 30, stopping.prompter.stop_ids) == short.ids
    # A chat goes on behind a stop token as behind any other.
    follow_up = stopping.prompter.prompt(_turns(PROMPTS[0], short.text, "And?"))
    again = stopping.complete(_turns(PROMPTS[0], short.text, "And?"), max_new_tokens=10)
    assert again.ids == stopping.generate_ids(follow_up, max_new_tokens=10)


def test_stop_when_is_asked_after_each_token(runtime: Runtime) -> None:
    ids = runtime.prompter.prompt(_turns("x"))
    lengths: list[int] = []

    def enough(answer: list[int]) -> bool:
        lengths.append(len(answer))
        return len(answer) == 3

    assert len(runtime.generate_ids(ids, max_new_tokens=20, stop_when=enough)) == 3
    assert lengths == [1, 2, 3]


def test_a_stop_string_ends_the_text_before_it(runtime: Runtime) -> None:
    whole = runtime.complete(PROMPTS[0], max_new_tokens=40).text
    stop = whole[12:18]
    stream = runtime.stream(PROMPTS[0], max_new_tokens=40, stop=["never there", stop])
    text = "".join(stream)
    assert text == whole[: whole.index(stop)]
    assert stream.completion().finish_reason == "stop"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two three", ("two",), "one "),
        ("aaab", ("aab",), "a"),
        ("abcabd", ("abd",), "abc"),
        ("ends with a sto", ("stop",), "ends with a sto"),
        ("both a and b", ("b", "a"), ""),
        ("nothing", (), "nothing"),
    ],
)
def test_stop_strings(text: str, stop: tuple[str, ...], expected: str, size: int) -> None:
    stopper = StopStrings(stop)
    out = ""
    for start in range(0, len(text), size):
        out += stopper.push(text[start : start + size])
        if stopper.hit:
            break
    else:
        out += stopper.flush()
    assert out == expected


def test_a_stream_left_early_is_told_apart(runtime: Runtime) -> None:
    stream = runtime.stream("x", max_new_tokens=40)
    next(stream)
    stream.close()
    done = stream.completion()
    assert done.finish_reason == "interrupted"
    assert 0 < len(done.ids) < 40
    assert runtime.complete("x", max_new_tokens=40).ids[: len(done.ids)] == done.ids


# The context.


def test_a_prompt_longer_than_the_context(runtime: Runtime) -> None:
    with pytest.raises(InputError, match=r"\d+ tokens leave no room .* context of 512"):
        runtime.stream("word " * 600)
    with pytest.raises(InputError, match="512 tokens leave no room"):
        runtime.generate_ids([5] * 512, max_new_tokens=1)


def test_an_answer_ends_with_the_context(runtime: Runtime) -> None:
    assert len(runtime.generate_ids([5] * 509, max_new_tokens=100)) <= 3


# Choosing tokens.


def test_a_seed_repeats_itself(runtime: Runtime) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 24, "temperature": 1.0, "top_p": 0.95}
    first = runtime.complete("x", **settings, seed=7).ids
    assert runtime.complete("x", **settings, seed=7).ids == first
    others = [runtime.complete("x", **settings, seed=seed).ids for seed in (8, 9)]
    assert others != [first, first]
    assert runtime.complete("x", **settings).ids != runtime.complete("x", **settings).ids


def test_sampling_from_one_token_is_greedy(runtime: Runtime) -> None:
    greedy = runtime.complete("x", max_new_tokens=12).ids
    assert runtime.complete("x", max_new_tokens=12, temperature=1.0, top_k=1).ids == greedy


def test_a_repetition_penalty_changes_the_answer(runtime: Runtime) -> None:
    greedy = runtime.complete("x", max_new_tokens=40).ids
    other = runtime.complete("x", max_new_tokens=40, repetition_penalty=1.5).ids
    assert len(set(other)) > len(set(greedy))


def test_search_settings_of_the_bundle_do_not_count(runtime: Runtime, tmp_path: Path) -> None:
    shutil.copytree(runtime.bundle.path, tmp_path / "bundle")
    for key, value in (("do_sample", True), ("repetition_penalty", 1.9), ("min_length", 9)):
        edit_json(tmp_path / "bundle/genai_config.json", f"search.{key}", value)
    write_manifest(tmp_path / "bundle", context_length=512)
    other = Runtime(tmp_path / "bundle", threads=1)
    assert other.complete("x").ids == runtime.complete("x").ids


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("repetition_penalty", 0.0),
        ("max_new_tokens", 0),
        ("seed", -1),
        ("seed", 2**31),
        ("stop", [""]),
        ("stop", "END"),
    ],
)
def test_settings_out_of_range_are_named(runtime: Runtime, name: str, value: Any) -> None:
    settings = {"temperature": 1.0, name: value}
    with pytest.raises(InputError, match=f"^{name}: must be"):
        runtime.stream("x", **settings)
    with pytest.raises(OutOfRange) as caught:
        SamplingParams(**settings)
    assert caught.value.name == name


def test_keywords_of_a_call_are_the_fields_of_one_declaration(runtime: Runtime) -> None:
    assert get_type_hints(SamplingFields) == get_type_hints(SamplingParams)
    sampling = SamplingParams(max_new_tokens=12, temperature=1.0, seed=7)
    wanted = runtime.complete("x", max_new_tokens=12, temperature=1.0, seed=7).ids
    assert runtime.complete("x", sampling).ids == wanted
    assert runtime.complete("x", sampling, max_new_tokens=3).ids == wanted[:3]


# Chats.


def _turns(*texts: str) -> list[Message]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


def _chat(runtime: Runtime, questions: Sequence[str]) -> list[Completion]:
    texts: list[str] = []
    answers = []
    for question in questions:
        texts.append(question)
        answers.append(runtime.complete(_turns(*texts), max_new_tokens=12))
        texts.append(answers[-1].text)
    return answers


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The capacities of the caches that are made from here on."""
    capacities: list[int] = []
    fresh = Caches.fresh

    def counted(caches: Caches, ids: Sequence[int], capacity: int, *others: Any) -> Cached:
        capacities.append(capacity)
        return fresh(caches, ids, capacity, *others)

    monkeypatch.setattr(Caches, "fresh", counted)
    return capacities


def test_a_chat_goes_on_from_its_cache_with_the_same_tokens(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(tiny_bundle, threads=1)
    capacities = _counted(monkeypatch)
    answers = _chat(runtime, ["What is red?", "And green?", "And blue?", "And snow?", "And coal?"])
    # The first cache is as small as it can be, the second has room for turns that follow.
    needed = [len(done.prompt_ids) + 12 for done in answers]
    assert capacities[:2] == [needed[0], 2 * needed[1]]
    assert len(capacities) < len(answers)
    for done in answers:
        assert runtime.generate_ids(done.prompt_ids, max_new_tokens=12) == done.ids


def test_a_prompt_of_a_large_vocabulary_is_read_in_pieces(
    runtime: Runtime, graph: GraphSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PROMPT_BYTES", 1)
    ids = runtime.prompter.prompt(_turns("Count " * 30))
    assert len(ids) > 2 * pieces.LEAST
    model = load_model(runtime.bundle, runtime.prompter.stop_ids, threads=1, provider=None)
    generator = new_generator(model, len(ids), GREEDY)
    generator.append_tokens(np.array(ids, np.int32))
    # What it gives of a prompt is its last piece: so it is read in pieces indeed.
    assert generator.get_output("logits").shape[1] == (len(ids) - 1) % pieces.LEAST + 1
    last = generator.get_logits()[0, -1]
    np.testing.assert_allclose(last, graph.logits(ids)[-1], atol=1e-4)


@pytest.mark.parametrize("generated", [0, 1, 5])
def test_a_cache_goes_on_behind_its_newest_token(
    runtime: Runtime, graph: GraphSession, generated: int
) -> None:
    bundle = runtime.bundle
    model = load_model(bundle, runtime.prompter.stop_ids, threads=1, provider=None)
    caches = Caches(model, bundle.context_length)
    ids = runtime.prompter.prompt(_turns("Count"))
    cached = caches.take(ids, 60, GREEDY, resume=False)
    for _ in range(generated):
        cached.generator.generate_next_token()
        ids.append(int(cached.generator.get_next_tokens()[0]))
    caches.give_back(cached)
    ids += [40, 41, 42]
    again = caches.take(ids, 10, GREEDY, resume=True)
    assert again is cached
    # Tokens alone would not show a token left out: this model hardly looks back.
    logits = again.generator.get_logits()[0, -1]
    np.testing.assert_allclose(logits, graph.logits(ids)[-1], atol=1e-4)


def test_a_single_prompt_never_goes_on_from_a_cache(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(tiny_bundle, threads=1)
    made = _counted(monkeypatch)
    for prompt in ("x", "x", "x and more"):
        runtime.complete(prompt, max_new_tokens=2)
    assert len(made) == 3


def test_an_unfinished_answer_can_be_gone_on_from(runtime: Runtime) -> None:
    stream = runtime.stream(_turns("Count"), max_new_tokens=30)
    next(stream)
    stream.close()
    turns = _turns("Count", stream.completion().text, "Go on")
    done = runtime.complete(turns, max_new_tokens=12)
    assert done.ids == runtime.generate_ids(done.prompt_ids, max_new_tokens=12)


def test_two_streams_at_once_do_not_mix(runtime: Runtime) -> None:
    alone = [runtime.complete(prompt, max_new_tokens=12).text for prompt in PROMPTS[:2]]
    streams = [runtime.stream(prompt, max_new_tokens=12) for prompt in PROMPTS[:2]]
    texts = ["", ""]
    for _ in range(14):
        for i, stream in enumerate(streams):
            texts[i] += next(stream, "")
    assert texts == alone


def test_a_system_message_comes_first(runtime: Runtime) -> None:
    with_system = runtime.complete("x", system="Be brief", max_new_tokens=1).prompt_ids
    turns: list[Message] = [{"role": "system", "content": "Be brief"}, *_turns("x")]
    assert with_system == runtime.prompter.prompt(turns)
    with pytest.raises(InputError, match="system"):
        runtime.stream(turns, system="Be long")


# What is not there.


def test_without_onnxruntime_genai(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime_genai", None)
    with pytest.raises(MissingError, match=r"edgepeft\[cpu\]"):
        Runtime(tiny_bundle)


def test_without_onnxruntime(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingError, match=r"edgepeft\[cpu\]"):
        GraphSession(Bundle.open(tiny_bundle))


def test_a_provider_that_is_not_there(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="provider: 'abacus'"):
        Runtime(tiny_bundle, provider="abacus")
    with pytest.raises(MissingError, match="AbacusExecutionProvider"):
        GraphSession(Bundle.open(tiny_bundle), providers=["AbacusExecutionProvider"])


def test_threads_below_one(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="threads"):
        Runtime(tiny_bundle, threads=0)
    with pytest.raises(InputError, match="threads"):
        GraphSession(Bundle.open(tiny_bundle), threads=0)


def test_a_model_that_does_not_load(small: Path, tiny_bundle: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json", "chat_template.jinja"):
        shutil.copy(tiny_bundle / name, small / name)
    write_manifest(small)
    with pytest.raises(EdgepeftError, match="cannot load it"):
        Runtime(small)
