"""`edgepeft run` and other commands on encoders' bundles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING, ENCODER_TASKS, TAGGING
from tests.command import edgepeft
from tests.stages import Find

TEXT = "What is the colour of a lemon (number 31)?"


def test_labels_with_scores(built: Find) -> None:
    done = edgepeft("run", built(f"minilm-{CLASSIFICATION}", "cpu-int4"), TEXT)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert sorted(name for name, _ in lines) == ["bright", "dark", "warm"]
    scores = [float(score) for _, score in lines]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1.0, abs=2e-3)


def test_labelled_words(built: Find) -> None:
    folder = built(f"modernbert-{TAGGING}", "cpu-fp32")
    done = edgepeft("run", folder, TEXT)
    assert [line.split(None, 2)[::2] for line in done.stdout.splitlines()] == [
        ["thing", "a lemon"],
        ["number", "31"],
    ]
    told = json.loads(edgepeft("run", folder, TEXT, "--json").stdout)
    assert [(span["label"], span["text"]) for span in told["spans"]] == [
        ("thing", "a lemon"),
        ("number", "31"),
    ]


def test_a_vector_for_each_line_of_a_file(built: Find, tmp_path: Path) -> None:
    rows = tmp_path / "texts.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in (TEXT, "Coal.")))
    folder = built(f"minilm-{EMBEDDING}", "cpu-fp32")
    done = edgepeft("run", folder, "--prompts", rows)
    vectors = [json.loads(line)["vector"] for line in done.stdout.splitlines()]
    assert [len(vector) for vector in vectors] == [64, 64]
    assert sum(x * x for x in vectors[0]) == pytest.approx(1.0, abs=1e-4)
    plain = edgepeft("run", folder, TEXT).stdout.split()
    assert [float(x) for x in plain] == pytest.approx(vectors[0], abs=1e-5)


def test_a_text_too_long_is_cut_and_that_is_told(built: Find) -> None:
    done = edgepeft("run", built(f"minilm-{CLASSIFICATION}", "cpu-int4"), "lemon " * 300, "--json")
    assert done.returncode == 0
    assert "longer than the 128 tokens that this model reads" in done.stderr
    assert json.loads(done.stdout)["tokens_left_out"] > 100


def test_misuse_is_one_line(built: Find, tmp_path: Path) -> None:
    folder = built(f"minilm-{CLASSIFICATION}", "cpu-int4")
    for command in (("run", folder, " "), ("bench", folder, "--prompt-tokens", "4000")):
        done = edgepeft(*command)
        assert done.returncode == 2, command
        errors = [line for line in done.stderr.splitlines() if not line.startswith("warning:")]
        assert len(errors) == 1, done.stderr
    changed = tmp_path / "bundle"
    shutil.copytree(folder, changed)
    data = changed / "onnx" / "model_q4.onnx_data"
    data.write_bytes(data.read_bytes()[:-1] + b"\x01")
    done = edgepeft("run", changed, TEXT)
    assert done.returncode == 2
    assert "changed since it was built" in done.stderr


def test_encoders_are_timed_beside_each_other(built: Find) -> None:
    folders = [built(f"minilm-{CLASSIFICATION}", target) for target in ("cpu-int4", "cpu-fp32")]
    options = ("--prompt-tokens", "4,16", "--rounds", "1", "--threads", "1")
    found = json.loads(edgepeft("bench", *folders, *options, "--json").stdout)
    for case, target in zip(found["cases"], ("cpu-int4", "cpu-fp32"), strict=True):
        assert (case["target"], case["task"]) == (target, CLASSIFICATION)
        assert case["peak_memory_bytes"] > 20e6
        for length, tokens in zip(case["lengths"], (4, 16), strict=True):
            assert length["tokens_per_second"] == tokens / length["text_seconds"]
    shown = edgepeft("bench", folders[0], *options)
    assert "texts/s" in shown.stdout, shown.stderr
    assert "decode tok/s" not in shown.stdout


def test_checking_and_inspecting_a_bundle(built: Find) -> None:
    folder = built(f"minilm-{EMBEDDING}", "cpu-fp32")
    assert "the graph loads" in edgepeft("verify", folder).stdout
    facts = json.loads(edgepeft("inspect", folder, "--json").stdout)
    assert facts["task"] == EMBEDDING
    model = json.loads(edgepeft("inspect", built(f"minilm-{EMBEDDING}", "model"), "--json").stdout)
    assert model["supported"]
    assert set(model["tasks"]) == set(ENCODER_TASKS)


QUERY, PASSAGES = "What is the colour of a lemon?", ("Number 3: it is yellow.", "Coal is black.")


def test_passages_are_ranked(built: Find, tmp_path: Path) -> None:
    folder = built("ranker", "cpu-fp32")
    asked = [part for passage in PASSAGES for part in ("--pair", passage)]
    told = json.loads(edgepeft("run", folder, QUERY, *asked, "--json").stdout)["passages"]
    assert [one["score"] for one in told] == sorted((one["score"] for one in told), reverse=True)
    assert {one["text"] for one in told} == set(PASSAGES)
    lines = edgepeft("run", folder, QUERY, *asked).stdout.splitlines()
    assert [line.partition("  ")[2] for line in lines] == [one["text"] for one in told]
    rows = tmp_path / "rows.jsonl"
    made = [{"query": QUERY, "passage": passage, "score": 1} for passage in PASSAGES]
    rows.write_text("".join(json.dumps(row) + "\n" for row in made))
    by_row = edgepeft("run", folder, "--prompts", rows).stdout.splitlines()
    scores = {one["text"]: one["score"] for one in told}
    for line, passage in zip(by_row, PASSAGES, strict=True):
        (one,) = json.loads(line)["passages"]
        assert one["score"] == pytest.approx(scores[passage], abs=1e-6)


@pytest.mark.parametrize(
    ("case", "asked", "words"),
    [
        ("ranker", (QUERY,), "ranks passages for a query and does not chat; give the second text"),
        ("pairs", (QUERY,), "reads two texts and does not chat"),
        ("pairs", (QUERY, "--pair", "a", "--pair", "b"), "reads two texts; give --pair once"),
        ("several", (QUERY, "--pair", "a"), "reads single texts; leave out the second one"),
        ("ranker", ("--prompts", "rows.jsonl", "--pair", "a"), "--pair or --prompts, not both"),
    ],
)
def test_two_texts_where_one_is_read_and_the_other_way(
    built: Find, case: str, asked: tuple[str, ...], words: str
) -> None:
    done = edgepeft("run", built(case, "cpu-fp32"), *asked)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if not line.startswith("warning:")]
    assert len(errors) == 1
    assert words in errors[0]
