"""The measures of encoders, on numbers small enough to be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from edgepeft.config.target_sections import Gates
from edgepeft.evaluation.gates import missed_gates
from edgepeft.evaluation.table import table_rows
from edgepeft.metrics.encoder_examples import Example
from edgepeft.metrics.judge import Answer
from edgepeft.metrics.labels import LabelJudge, SeveralLabelsJudge, TagJudge, macro_f1
from edgepeft.metrics.ranking import ScoreJudge, ndcg, rank_agreement, spearman
from edgepeft.metrics.vectors import VectorJudge
from edgepeft.models.scoring import Scoring
from edgepeft.models.tasks import EMBEDDING
from edgepeft.runtime.encoder import group_tags


def example(targets: list[int], other: list[int] | None = None) -> Example:
    return Example([1], list(range(len(targets))), targets, other, "here")


def test_tags_are_grouped_as_conlleval_does() -> None:
    assert group_tags(["O", "B-a", "I-a", "B-a", "I-b", "O", "I-b", "c", "c"]) == [
        ("a", 1, 3),
        ("a", 3, 4),
        ("b", 4, 5),
        ("b", 6, 7),
        ("c", 7, 9),
    ]
    # A gap ends a span, though the label goes on.
    assert group_tags(["a", "O", "a"]) == [("a", 0, 1), ("a", 2, 3)]


def test_accuracy_f1_and_loss_of_texts() -> None:
    outputs = [torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[math.log(3.0), 0.0]])] * 2
    found = LabelJudge("ab").quality(
        outputs, [example([1]), example([0]), example([0]), example([0])]
    )
    assert found.shares["accuracy"] == 0.75
    # Class 0: two of three found, no false one (F1 0.8); class 1: found, with one false (F1 2/3).
    assert found.shares["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert found.loss == pytest.approx((3 * math.log(4 / 3) + math.log(4)) / 4)
    assert macro_f1(torch.tensor([1, 1]), torch.tensor([1, 1])) == 1.0


def test_spans_count_only_whole_and_with_their_label() -> None:
    labels = ["O", "B-a", "I-a"]
    wanted = [1, 2, 0, 1]
    guessed = torch.nn.functional.one_hot(torch.tensor([1, 0, 0, 1]), 3).float()
    found = TagJudge(labels).quality([guessed], [example(wanted)])
    assert found.shares["accuracy"] == 0.75
    assert found.shares["span_f1"] == pytest.approx(0.5)


def test_retrieval_takes_an_equal_positive_for_right() -> None:
    north, east = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    pairs = [torch.stack([north, north]), torch.stack([east, east]), torch.stack([north, north])]
    alike = [example([], [7]), example([], [8]), example([], [7])]
    assert VectorJudge().quality(pairs, alike).shares["retrieval_accuracy"] == 1.0
    unlike = [example([], [7]), example([], [8]), example([], [9])]
    assert VectorJudge().quality(pairs, unlike).shares["retrieval_accuracy"] == pytest.approx(2 / 3)


def test_a_negative_that_is_nearer_is_found_in_the_positives_place() -> None:
    north, east = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    outputs = [torch.stack([north, east, north]), torch.stack([-east, -east])]
    rows = [replace(example([], [7]), negative=[9], where="first"), example([], [8])]
    assert VectorJudge().quality(outputs, rows).shares["retrieval_accuracy"] == 0.5
    assert VectorJudge().answers(outputs, rows)[0] == Answer(False, "first", "first")


def test_several_labels_count_each_by_itself() -> None:
    outputs = [torch.tensor([[2.0, -2.0, -2.0]]), torch.tensor([[2.0, 2.0, -2.0]])]
    found = SeveralLabelsJudge("abc").quality(outputs, [example([0]), example([0, 2])])
    # Right a twice, wrong b once, missed c once.
    assert found.shares["micro_f1"] == pytest.approx(2 * 2 / (3 + 3))
    assert found.shares["macro_f1"] == pytest.approx((1 + 0 + 0) / 3)
    assert found.shares["subset_accuracy"] == 0.5
    right, wrong = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    assert found.loss == pytest.approx((4 * right + 2 * wrong) / 6)
    judge = SeveralLabelsJudge("abc")
    assert judge.answers(outputs[1:], [example([0, 2])]) == [Answer(False, "a c", "a b")]
    zero = torch.zeros(1, 3)
    near = judge.closeness([torch.full((1, 3), math.log(3.0))], [zero], [example([0])])
    assert near["task_kl"] == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    # Neither far off is a divergence without bounds.
    far = judge.closeness([torch.full((1, 3), 80.0)], [torch.full((1, 3), -80.0)], [example([0])])
    assert far["task_kl"] == pytest.approx(80.0)


def test_the_order_of_passages() -> None:
    worth = torch.tensor([0.0, 1.0, 2.0])
    assert ndcg(torch.tensor([-1.0, 0.5, 9.0]), worth) == pytest.approx(1.0)
    gains = [1.0, 1 / math.log2(3), 1 / math.log2(4)]
    best = 2 * gains[0] + gains[1]
    assert ndcg(torch.tensor([9.0, 0.5, -1.0]), worth) == pytest.approx(
        (gains[1] + 2 * gains[2]) / best
    )
    # Equal numbers are in no order, whatever that of the rows is.
    assert ndcg(torch.zeros(3), worth) == pytest.approx(sum(gains) / best)
    assert ndcg(worth, torch.ones(3)) is None
    assert spearman(torch.tensor([1.0, 5.0, 7.0]), worth) == pytest.approx(1.0)
    assert spearman(torch.tensor([3.0, 1.0, 2.0]), worth) == pytest.approx(-0.5)
    assert spearman(torch.zeros(3), worth) == 0.0
    assert spearman(worth, torch.zeros(3)) is None
    assert rank_agreement(worth, torch.tensor([0.0, 2.0, 1.0]), [[0, 1, 2]]) == pytest.approx(2 / 3)
    assert rank_agreement(worth, torch.tensor([0.0, 2.0, 1.0]), [[0, 1], [2]]) == 1.0
    assert rank_agreement(worth, torch.zeros(3), [[0, 1, 2]]) == 0.5


def test_scores_differ_in_units_of_their_own_spread() -> None:
    rows = [replace(example([]), query=q, score=s) for q, s in (("a", 1.0), ("a", 0.0), ("b", 1.0))]
    mine, theirs = (
        [torch.tensor([[value]]) for value in values]
        for values in ((1.0, 3.0, 5.0), (1.0, 1.0, 5.0))
    )
    values = ScoreJudge(Scoring("mse", "identity"))
    near = values.closeness(mine, theirs, rows)
    spread = math.sqrt(8 / 3)
    assert near["score_difference"] == pytest.approx(2 / 3 / spread)
    assert near["largest_score_difference"] == pytest.approx(2 / spread)
    assert near["rank_agreement"] == 0.5
    assert "task_kl" not in near
    found = values.quality(mine, rows)
    assert found.loss == pytest.approx((0 + 9 + 16) / 3)
    assert found.shares["ndcg"] == pytest.approx(1 / math.log2(3))
    chances = ScoreJudge(Scoring()).closeness(mine, theirs, rows)
    assert chances["task_kl"] > 0.01
    # The second passage of the first query stands above the one that is worth more.
    assert [one.right for one in values.answers(mine, rows)] == [False, False, True]
    assert values.answers(mine, rows)[0] == Answer(False, "rank 1", "rank 2")


def test_kl_is_that_of_the_probabilities() -> None:
    reference, other = [torch.tensor([[0.0, math.log(3.0)]])], [torch.tensor([[0.0, 0.0]])]
    found = LabelJudge("ab").closeness(reference, other, [])
    assert found["task_kl"] == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert found["label_agreement"] == 0.0
    cosines = VectorJudge().closeness([torch.eye(2)], [torch.tensor([[1.0, 0.0], [1.0, 1.0]])], [])
    assert cosines["min_cosine_similarity"] == pytest.approx(math.sqrt(0.5))
    assert cosines["cosine_similarity"] == pytest.approx((1 + math.sqrt(0.5)) / 2)


def test_answers_say_what_was_wanted_and_what_came() -> None:
    sure = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    rows = [example([1]), example([1])]
    assert LabelJudge("ab").answers([sure[:1], sure[1:]], rows) == [
        Answer(True, "b", "b"),
        Answer(False, "b", "a"),
    ]
    # One wrong word is a wrong row.
    assert TagJudge("ab").answers([sure, sure], [example([1, 0]), example([1, 1])]) == [
        Answer(True, "b a", "b a"),
        Answer(False, "b b", "b a"),
    ]
    north, east = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    pairs = [torch.stack([north, north]), torch.stack([east, north]), torch.stack([north, east])]
    asked = [replace(example([], [n]), where=f"row {n}") for n in range(3)]
    assert VectorJudge().answers(pairs, asked) == [
        Answer(True, "row 0", "row 0"),
        Answer(False, "row 1", "row 2"),
        Answer(False, "row 2", "row 0"),
    ]


def test_gates_of_encoders_name_value_and_bound() -> None:
    measures = {"accuracy": 0.8, "reference_accuracy": 0.9, "task_kl": 0.2, "span_f1": 0.5}
    measures["reference_span_f1"] = 0.9
    assert missed_gates(measures, Gates()) == [
        "max_accuracy_drop: 0.1000 > 0.03 (reference 0.900, bundle 0.800)",
        "max_span_f1_drop: 0.4000 > 0.03 (reference 0.900, bundle 0.500)",
        "max_task_kl: 0.2000 > 0.05",
    ]
    assert missed_gates({"cosine_similarity": 0.9}, Gates()) == [
        "min_cosine_similarity: 0.9000 < 0.97"
    ]
    nothing = float("nan")
    assert missed_gates({"cosine_similarity": nothing}, Gates())
    off = Gates(
        min_cosine_similarity=None, max_accuracy_drop=None, max_span_f1_drop=None, max_task_kl=None
    )
    assert missed_gates({**measures, "cosine_similarity": 0.1}, off) == []


def test_each_task_has_a_table_of_its_own() -> None:
    facts = {
        "task": EMBEDDING,
        "cosine_similarity": 0.995,
        "min_cosine_similarity": 0.99,
        "retrieval_accuracy": 0.6,
        "base_retrieval_accuracy": 0.2,
        "reference_retrieval_accuracy": 0.61,
        "recovery": 0.99,
        "texts_per_second": 70.2,
    }
    bundle = {"target": "cpu-int4", "bytes": 21_000_000, "gates": "passed", "fidelity": facts}
    header, rows = table_rows([bundle])
    assert header == [
        *("model", "cosine", "least cosine", "retrieval", "recovery", "MB", "texts/s", "gates")
    ]
    assert rows == [
        ["base, no adapter", "–", "–", "0.200", "0", "–", "–", "–"],
        ["reference, unmerged", "1", "1", "0.610", "1", "–", "–", "–"],
        ["cpu-int4", "0.9950", "0.9900", "0.600", "0.990", "21", "70", "passed"],
    ]
