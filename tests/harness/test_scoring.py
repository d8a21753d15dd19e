"""What of a text is read where it is longer than the context, and where tokens stand before every prompt."""

from __future__ import annotations

import numpy as np
import pytest

from edgepeft.errors import InputError
from edgepeft.harness.scoring import Fitted, Scorer, Window
from edgepeft.runtime import Bundle, GraphSession
from tests.harness.conftest import Twins


def test_the_beginning_is_cut_and_the_lead_stays() -> None:
    window = Window(8, [900, 901])
    assert window.room == 6
    whole = window.fit([900, 901, 1, 2], [3, 4])
    assert (whole.ids, whole.wanted, whole.cut) == ((900, 901, 1, 2, 3), (3, 4), 0)
    # The last of the wanted tokens is not read, so one more than the room fits.
    assert window.fit([900, 901, 1, 2, 3, 4, 5], [6, 7]).cut == 0
    cut = window.fit([900, 901, 0, 1, 2, 3, 4, 5], [6, 7])
    assert (cut.ids, cut.cut) == ((900, 901, 1, 2, 3, 4, 5, 6), 1)
    with pytest.raises(InputError, match="a continuation of 7 tokens does not fit"):
        window.fit([1], list(range(7)))


def test_a_prompt_leaves_room_for_its_answer() -> None:
    window = Window(8, [900])
    assert window.prompt([900, 1, 2, 3], 4) == ([900, 1, 2, 3], 0)
    assert window.prompt([900, 1, 2, 3, 4, 5], 4) == ([900, 3, 4, 5], 2)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_a_text_read_in_parts_is_scored_as_when_read_whole(twins: Twins, chunk: int) -> None:
    """The continuations begin within a part, at its end, and several parts before the last."""
    graph = GraphSession(Bundle.open(twins.bundle))
    ids = [100 + (7 * place) % 300 for place in range(150)]
    texts = [Fitted(tuple(ids[:-1]), tuple(ids[-count:]), 0) for count in (1, 2, 8, 22, 64, 149)]
    texts.append(Fitted(tuple(ids[:-1]), (*ids[-3:-1], 5), 0))
    places: list[int] = []
    whole = Scorer(graph, graph.vocab_size, 512).score(texts, lambda done, tokens: None)
    parts = Scorer(graph, graph.vocab_size, chunk).score(
        texts, lambda done, tokens: places.extend(done)
    )
    assert sorted(places) == list(range(len(texts)))
    assert [one.greedy for one in parts] == [one.greedy for one in whole]
    assert [one.nats for one in parts] == pytest.approx([one.nats for one in whole], abs=1e-3)
    # Beside the sums over the logits of all positions at once.
    logits = graph.logits(ids[:-1]).astype(np.float64)
    likely = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    following = likely[np.arange(149), ids[1:]]
    for count, score in zip((1, 2, 8, 22, 64, 149), whole, strict=False):
        assert score.nats == pytest.approx(following[-count:].sum(), abs=1e-3)


def test_virtual_tokens_are_no_part_of_the_distribution(twins: Twins) -> None:
    graph = GraphSession(Bundle.open(twins.bundle))
    text = [Fitted((1, 100, 120), (90,), 0)]
    (all_of_them,) = Scorer(graph, graph.vocab_size, 512).score(text, lambda done, tokens: None)
    (some,) = Scorer(graph, 100, 512).score(text, lambda done, tokens: None)
    assert some.nats > all_of_them.nats
