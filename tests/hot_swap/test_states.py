"""Rows of a batch keep the states of their own convolutions, with an adapter of their own."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from edgepeft.errors import MissingError
from edgepeft.hot_swap.store import add_adapter
from edgepeft.runtime import BatchRuntime, Bundle, Runtime
from edgepeft.runtime.batch import Batch, Reading
from tests.hot_swap.chain import CASES
from tests.stages import Find

NAMES = ("base", *CASES["lfm2"].adapters)
PROMPTS = ["What is the colour of grass?", "Snow?", "Turn on the light in the kitchen. " * 12]
ASKED = [(name, prompt) for prompt in PROMPTS for name in NAMES]


@pytest.fixture(scope="module")
def convolved(built: Find, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("convolved") / "bundle"
    shutil.copytree(built("lfm2", "cpu-fp32"), folder)
    for name in CASES["lfm2"].adapters:
        add_adapter(Bundle.open(folder), name, built("lfm2", "adapters") / name)
    return folder


def answers(runtime: BatchRuntime | Runtime, which: list[int]) -> list[list[int]]:
    """The answers to some questions of ``ASKED``, of different lengths, as many at a time as a batch has rows."""

    def ask(index: int) -> list[int]:
        name, prompt = ASKED[index]
        return runtime.complete(prompt, adapter=name, max_new_tokens=8 + 5 * index).ids

    with ThreadPoolExecutor(6) as clients:
        return list(clients.map(ask, which))


def test_rows_answer_together_as_alone(convolved: Path) -> None:
    order = [index for index in range(len(ASKED)) for _ in range(3)]
    np.random.default_rng(0).shuffle(order)
    single = Runtime(convolved, threads=1)
    alone = [answers(single, [index])[0] for index in range(len(ASKED))]
    assert len({tuple(answer[:6]) for answer in alone}) > 4
    batch = BatchRuntime(convolved, rows=4, threads=1)
    try:
        assert answers(batch, order) == [alone[index] for index in order]
    finally:
        batch.close()


def test_guesses_are_refused_beside_adapters(convolved: Path) -> None:
    with pytest.raises(MissingError, match=r"^speculate: .*keep states.*leave it off$"):
        Runtime(convolved, threads=1, speculate=True)


def test_a_row_with_the_state_of_another_would_show(
    convolved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison above sees a state that stays where it was."""
    wanted = [answers(Runtime(convolved, threads=1), [index])[0] for index in range(3)]
    place = Batch.place

    def forgetful(self: Batch, row: int, reading: Reading) -> None:
        # Keys and values have four dimensions, states three.
        reading.cache = [
            value
            if len(value.shape()) == 4
            else ort.OrtValue.ortvalue_from_numpy(np.zeros_like(value.numpy()))
            for value in reading.cache or ()
        ]
        place(self, row, reading)

    monkeypatch.setattr(Batch, "place", forgetful)
    batch = BatchRuntime(convolved, rows=2, threads=1)
    try:
        assert answers(batch, [0, 1, 2]) != wanted
    finally:
        batch.close()
