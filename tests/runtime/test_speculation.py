"""Guessed tokens: answers are those without guessing, and alike answers take fewer steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepeft.data.rows import Message
from edgepeft.errors import MissingError
from edgepeft.runtime import Bundle, Runtime
from edgepeft.runtime.engine import load_model, new_generator
from edgepeft.runtime.lookup import Guesser, Lookup
from edgepeft.runtime.plain import PlainModel
from edgepeft.runtime.search_options import GREEDY
from edgepeft.runtime.speculation import SpeculativeGenerator, require_even_steps

PROMPTS = ["What is the colour of grass?", "Turn on the light", "日本語 🙂", "x"]
ROOM = 40

Maker = Callable[[int], Any]


@pytest.fixture(scope="module", params=["genai", "plain"])
def reader(request: pytest.FixtureRequest, tiny_bundle: Path) -> Maker:
    """Makes empty generators of either runtime."""
    bundle = Bundle.open(tiny_bundle)
    if request.param == "plain":
        model: Any = PlainModel(bundle, (), threads=1)
    else:
        model = load_model(bundle, {0}, threads=1, provider=None)
    return lambda capacity: new_generator(model, capacity, GREEDY)


def continued(generator: Any, ids: list[int], count: int) -> list[int]:
    generator.append_tokens(np.array(ids, np.int32))
    found = []
    for _ in range(count):
        generator.generate_next_token()
        found.append(int(generator.get_next_tokens()[0]))
    return found


def test_guessing_changes_no_answer_and_saves_steps(reader: Maker) -> None:
    require_even_steps(reader, 500)
    lookup = Lookup()
    steps = []
    for ids in ([5, 6, 7, 8], [9, 10, 11, 12, 13], [5, 6, 7, 8], [7] * 9, [5, 6, 7, 8]):
        plain = continued(reader(len(ids) + ROOM), ids, ROOM)
        generator = SpeculativeGenerator(reader(len(ids) + ROOM), len(ids) + ROOM, lookup)
        assert continued(generator, ids, ROOM) == plain
        assert generator.get_sequence(0).tolist() == ids + plain
        generator.done()
        steps.append(generator.steps)
    # The third and the fifth have been answered before.
    assert steps[4] < steps[0]
    assert steps[4] <= ROOM // 4


def test_wrong_guesses_cost_steps_but_no_token(reader: Maker) -> None:
    class Liar(Lookup):
        def follower(self, contexts: Any) -> int | None:
            return 3

    ids = [5, 6, 7, 8]
    plain = continued(reader(len(ids) + ROOM), ids, ROOM)
    assert 3 not in plain
    generator = SpeculativeGenerator(reader(len(ids) + ROOM), len(ids) + ROOM, Liar())
    assert continued(generator, ids, ROOM) == plain


def test_a_conversation_goes_on_from_where_it_was(reader: Maker) -> None:
    """Rewinding behind what was guessed, then reading on."""
    ids, more = [5, 6, 7, 8], [20, 21, 22]
    generator = SpeculativeGenerator(reader(80), 80, Lookup())
    first = continued(generator, ids, 10)
    generator.rewind_to(len(ids) + 6)
    second = continued(generator, more, 10)
    again = SpeculativeGenerator(reader(80), 80, Lookup())
    assert continued(again, ids, 6) == first[:6]
    again.rewind_to(len(ids) + 5)
    assert continued(again, [first[5], *more], 10) == second
    assert generator.get_sequence(0).tolist() == again.get_sequence(0).tolist()


def test_the_runtime_answers_alike_with_and_without(tiny_bundle: Path) -> None:
    plain, guessing = (
        Runtime(tiny_bundle, threads=1),
        Runtime(tiny_bundle, threads=1, speculate=True),
    )
    for prompt in PROMPTS * 2:
        wanted = plain.complete(prompt, max_new_tokens=48)
        assert guessing.complete(prompt, max_new_tokens=48).ids == wanted.ids
        assert guessing.generate_ids(wanted.prompt_ids, max_new_tokens=48) == wanted.ids
    turns: list[Message] = [{"role": "user", "content": PROMPTS[0]}]
    for runtime in (plain, guessing):
        first = runtime.complete(turns, max_new_tokens=16)
        second: list[Message] = [
            *turns,
            {"role": "assistant", "content": first.text},
            {"role": "user", "content": PROMPTS[1]},
        ]
        runtime.complete(second, max_new_tokens=16)
    sampled = guessing.complete(PROMPTS[0], temperature=0.8, seed=3, max_new_tokens=16)
    assert sampled.ids == plain.complete(PROMPTS[0], temperature=0.8, seed=3, max_new_tokens=16).ids


def test_the_whole_context_can_be_used(tiny_bundle: Path) -> None:
    plain, guessing = (
        Runtime(tiny_bundle, threads=1),
        Runtime(tiny_bundle, threads=1, speculate=True),
    )
    ids = plain.prompter.prompt([{"role": "user", "content": PROMPTS[0]}])
    for _ in range(2):
        wanted = plain.generate_ids(ids, max_new_tokens=10_000)
        assert guessing.generate_ids(ids, max_new_tokens=10_000) == wanted
    assert len(ids) + len(wanted) <= plain.bundle.context_length


def test_a_machine_whose_pairs_differ_is_refused() -> None:
    class Odd:
        """Logits that depend on how many tokens are read at once."""

        def append_tokens(self, tokens: Any) -> None:
            self.rows = len(tokens)

        def get_output(self, name: str) -> Any:
            return np.full((1, self.rows, 4), self.rows > 2, np.float32)

    with pytest.raises(MissingError, match="speculate: the kernels of this machine"):
        require_even_steps(lambda room: Odd(), 4)  # type: ignore[arg-type, return-value]


# The guesses themselves.


def answer(lookup: Lookup, prompt: list[int], tokens: list[int]) -> None:
    guesser = Guesser(lookup, prompt)
    for token in tokens:
        guesser.push(token)
    guesser.done()


def test_a_template_is_guessed_around_values_never_seen() -> None:
    """1 2 VALUE 3 2 VALUE 4: what follows a new value is known by its place."""
    lookup = Lookup()
    for first, second in ((50, 60), (51, 61), (52, 62)):
        answer(lookup, [9, 9], [1, 2, first, 3, 2, second, 4])
    guesser = Guesser(lookup, [9, 9])
    assert guesser.guess(7) == [1, 2]
    for token in (1, 2, 77, 3):
        guesser.push(token)
    assert guesser.guess(7) == [2]
    for token in (2, 78, 4):
        guesser.push(token)
    assert guesser.ids == [9, 9, 1, 2, 77, 3, 2, 78, 4]


def test_a_prompt_is_repeated() -> None:
    guesser = Guesser(Lookup(), [1, 2, 3, 4, 5, 6, 7])
    for token in (1, 2, 3):
        guesser.push(token)
    assert guesser.guess(3) == [4, 5, 6]
    assert guesser.ids == [1, 2, 3, 4, 5, 6, 7, 1, 2, 3]


def test_who_is_wrong_guesses_less_often() -> None:
    lookup = Lookup()
    answer(lookup, [9], [1, 1, 1, 1, 1, 1])
    guesser = Guesser(lookup, [9])
    asked = 0
    for _ in range(40):
        guessed = guesser.guess(4)
        asked += bool(guessed)
        guesser.judge(len(guessed), 0)
        guesser.push(1)
    assert 3 <= asked <= 12


def test_what_is_remembered_is_bounded() -> None:
    lookup = Lookup()
    first, *_, last = (range(number * 100, number * 100 + 100) for number in range(200))
    for number in range(200):
        answer(lookup, [1], list(range(number * 100, number * 100 + 100)))
    known = [lookup.follower([tuple(said[:4])]) for said in (first, last)]
    assert known == [None, last[4]]
