"""Answers made together: each is the one it is alone, whoever else is there, comes or leaves."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepeft.errors import EdgepeftError, InputError
from edgepeft.hot_swap.store import add_adapter, remove_adapter
from edgepeft.runtime import BatchRuntime, Bundle, Runtime
from edgepeft.runtime.batch import PIECE, Batch
from edgepeft.runtime.batch_loop import Answer, Loop
from edgepeft.runtime.decoder_session import GraphSession, Step
from edgepeft.runtime.invariance import equal_widths
from edgepeft.runtime.slots import slots_of
from tests.hot_swap.chain import ADAPTERS
from tests.stages import Find

NAMES = ("base", *ADAPTERS)
PROMPTS = [
    "What is the colour of grass?",
    "Snow?",
    "Turn on the light in the kitchen, then set the heater in the bedroom. " * 6,
]
Ask = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def batch(filled: Path) -> Iterator[BatchRuntime]:
    made = BatchRuntime(filled, rows=4, threads=1)
    yield made
    made.close()


def ids(runtime: BatchRuntime | Runtime, ask: Ask) -> list[int]:
    name, prompt, settings = ask
    return runtime.complete(prompt, adapter=name, **settings).ids


def asked() -> list[Ask]:
    """Every adapter with every prompt, for answers of different lengths, some drawn with a seed."""
    found: list[Ask] = []
    for index, (name, prompt) in enumerate((n, p) for p in PROMPTS for n in NAMES):
        settings: dict[str, Any] = {"max_new_tokens": 8 + 3 * index}
        if index % 3 == 2:
            settings |= {"temperature": 1.0, "top_p": 0.9, "seed": index}
        found.append((name, prompt, settings))
    return found


def test_answers_made_together_are_those_made_alone(batch: BatchRuntime, filled: Path) -> None:
    """Ranks, prompts and answers of many sizes, in four rows that are joined and left at every moment."""
    questions = asked()
    assert len(batch.prompter.prompt([{"role": "user", "content": PROMPTS[2]}])) > 2 * PIECE
    alone = [ids(batch, ask) for ask in questions]
    assert len({tuple(answer[:6]) for answer in alone}) > 8
    order = [index for index in range(len(questions)) for _ in range(3)]
    np.random.default_rng(0).shuffle(order)
    with ThreadPoolExecutor(9) as clients:
        found = list(clients.map(lambda index: ids(batch, questions[index]), order))
    assert found == [alone[index] for index in order]
    # In floating point the way through onnxruntime-genai leads to the same tokens.
    single = Runtime(filled, threads=1)
    greedy = [index for index, ask in enumerate(questions) if "seed" not in ask[2]]
    assert [alone[i] for i in greedy] == [ids(single, questions[i]) for i in greedy]


def test_a_request_joins_and_leaves_while_another_is_answered(
    batch: BatchRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[list[Any]] = []
    step = Batch.step

    def counted(self: Batch, newest: Any) -> Any:
        steps.append(sorted(newest))
        return step(self, newest)

    monkeypatch.setattr(Batch, "step", counted)
    wanted = [batch.complete(prompt, adapter="one", max_new_tokens=60).text for prompt in PROMPTS]
    assert {len(rows) for rows in steps} == {1}
    steps.clear()
    stream = batch.stream(PROMPTS[0], adapter="one", max_new_tokens=400, stop=["@@@@@@"])
    first = next(stream)
    joined = batch.complete(PROMPTS[1], adapter="one", max_new_tokens=60).text
    assert joined == wanted[1]
    assert [0, 1] in steps
    under_way = steps.count([0])
    rest = "".join(stream)
    assert steps.count([0]) > under_way, "the longer answer went on after the shorter one left"
    assert (first + rest).startswith(wanted[0])


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_leaves_gives_the_row_back(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = BatchRuntime(filled, rows=2, threads=1)
    whole = runtime.complete(PROMPTS[0], adapter="two", max_new_tokens=30).ids
    settings: dict[str, Any] = {"max_new_tokens": 400, "stop": ["@@@@@@"]}
    streams = [runtime.stream(PROMPTS[1], adapter=name, **settings) for name in ("one", "few")]
    for stream in streams:
        next(stream)
    with ThreadPoolExecutor(1) as client:
        third = client.submit(
            lambda: runtime.complete(PROMPTS[0], adapter="two", max_new_tokens=30).ids
        )
        for stream in streams:
            stream.close()
        assert third.result(20) == whole
    assert all(stream.completion().finish_reason == "interrupted" for stream in streams)
    # Closing ends those under way and those that wait for a row.
    streams = [runtime.stream(PROMPTS[1], **settings) for _ in range(3)]
    for stream in streams[:2]:
        next(stream)
    waits, submit = threading.Event(), Loop.submit

    def submitted(loop: Loop, answer: Answer) -> None:
        submit(loop, answer)
        waits.set()

    monkeypatch.setattr(Loop, "submit", submitted)
    with ThreadPoolExecutor(1) as client:
        late = client.submit(lambda: next(streams[2]))
        assert waits.wait(20)
        runtime.close()
        with pytest.raises(EdgepeftError, match="cut short"):
            late.result(20)
    with pytest.raises(EdgepeftError, match="the batch is closed"):
        for _ in streams[0]:
            pass
    with pytest.raises(EdgepeftError, match="the batch is closed"):
        runtime.complete("x")


def answered(runtime: BatchRuntime, adapter: str) -> bool:
    """Whether there is room in memory for an adapter."""
    with contextlib.suppress(EdgepeftError):
        return bool(runtime.complete(PROMPTS[1], adapter=adapter, max_new_tokens=2).ids)
    return False


def test_an_adapter_is_in_use_as_long_as_a_row_has_it(built: Find, own: Path) -> None:
    bundle = Bundle.open(own)
    for name in ("one", "two"):
        add_adapter(bundle, name, built("llama", "adapters") / name)
    size = (own / "adapters/two/adapter.onnx_adapter").stat().st_size
    runtime = BatchRuntime(bundle, rows=2, threads=1, adapter_bytes=size)
    wanted = runtime.complete(PROMPTS[0], adapter="two", max_new_tokens=20).ids
    stream = runtime.stream(PROMPTS[0], adapter="two", max_new_tokens=400, stop=["@@@@@@"])
    next(stream)
    with pytest.raises(InputError, match="is in use"):
        remove_adapter(bundle, "two")
    with pytest.raises(EdgepeftError, match="adapters in use fill"):
        runtime.complete(PROMPTS[0], adapter="one")
    stream.close()
    wait_for(lambda: answered(runtime, "one"))
    assert runtime.complete(PROMPTS[0], adapter="one", max_new_tokens=20).ids != wanted
    remove_adapter(bundle, "two")
    with pytest.raises(InputError, match="no such adapter"):
        runtime.complete(PROMPTS[0], adapter="two")
    # Another one under its name is not taken for it.
    add_adapter(bundle, "two", built("llama", "adapters") / "few")
    assert runtime.complete(PROMPTS[0], adapter="two", max_new_tokens=20).ids != wanted
    runtime.close()


def test_merged_bundles_are_batched_too(tiny_bundle: Path) -> None:
    runtime = BatchRuntime(tiny_bundle, rows=3, threads=1)
    alone = [runtime.complete(prompt, max_new_tokens=20).ids for prompt in PROMPTS]
    with ThreadPoolExecutor(3) as clients:
        answers = clients.map(lambda p: runtime.complete(p, max_new_tokens=20).ids, PROMPTS)
        assert list(answers) == alone
    with pytest.raises(InputError, match="its adapter is merged in"):
        runtime.complete("x", adapter="one")
    runtime.close()
    with pytest.raises(InputError, match="batch: must be 2 or more"):
        BatchRuntime(tiny_bundle, rows=1)


class Meddling(GraphSession):
    """A graph whose rows see each other at some widths, by the last bit."""

    def __init__(self, bundle: Bundle, widths: tuple[int, ...]) -> None:
        super().__init__(bundle, threads=1)
        self._widths = widths

    def stepper(self, cache: Any, factors: Any) -> Step:
        step = super().stepper(cache, factors)

        def meddled(newest: Any, lengths: Any) -> Any:
            logits = step(newest, lengths)
            if len(newest) in self._widths:
                logits[0, 7] = np.nextafter(logits[0, 7], logits[-1, 7])
            return logits

        return meddled


def test_widths_at_which_rows_change_each_other_are_not_used(filled: Path) -> None:
    bundle = Bundle.open(filled)
    slots = slots_of(bundle).slots
    honest = equal_widths(GraphSession(bundle, threads=1), slots, 5, 512)
    assert honest[-1] == 5
    assert 3 in honest
    meddled = equal_widths(Meddling(bundle, (3,)), slots, 5, 512)
    assert set(meddled) == set(honest) - {3}
    with pytest.raises(EdgepeftError, match="rows of a batch of 5 change each other"):
        equal_widths(Meddling(bundle, (5,)), slots, 5, 512)
