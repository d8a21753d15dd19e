"""Preference rows in all their forms: what is asked, what is preferred, and what is never learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgepeft.data.formats import read_file
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Row
from edgepeft.errors import InputError
from edgepeft.training.objectives import encode_pairs
from tests.tiny import write_tiny_tokenizer


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def read(folder: Path, record: dict[str, Any], **options: Any) -> Row:
    path = folder / "train.jsonl"
    path.write_text(json.dumps(record) + "\n")
    (row,) = read_file(path, **options).rows
    return row


FORMS: list[dict[str, Any]] = [
    {"prompt": "Hi", "chosen": "Ho", "rejected": "No"},
    {"prompt": [user("Hi")], "chosen": [assistant("Ho")], "rejected": [assistant("No")]},
    {"prompt": [user("Hi")], "chosen": "Ho", "rejected": "No"},
    {"prompt": "Hi", "chosen": [assistant("Ho")], "rejected": [assistant("No")]},
    # What both begin with is the prompt, alone or once more.
    {"chosen": [user("Hi"), assistant("Ho")], "rejected": [user("Hi"), assistant("No")]},
    {
        "prompt": "Hi",
        "chosen": [user("Hi"), assistant("Ho")],
        "rejected": [user("Hi"), assistant("No")],
    },
    {
        "prompt": [user("Hi")],
        "chosen": [user("Hi"), assistant("Ho")],
        "rejected": [assistant("No")],
    },
    # As single messages, and beside a conversation.
    {"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "Ho"},
     "rejected": {"from": "gpt", "value": "No"}},
    {"messages": [user("Hi")], "chosen": assistant("Ho"), "rejected": assistant("No")},
    # The conversation with the chosen answer, for supervised training, as it is often there too.
    {
        "prompt": "Hi",
        "chosen": [user("Hi"), assistant("Ho")],
        "rejected": [user("Hi"), assistant("No")],
        "messages": [user("Hi"), assistant("Ho")],
    },
]  # fmt: skip


@pytest.mark.parametrize("record", FORMS, ids=range(len(FORMS)))
def test_forms(tmp_path: Path, record: dict[str, Any]) -> None:
    row = read(tmp_path, {**record, "score_chosen": 9.0, "id": 1})
    assert row.messages == (user("Hi"), assistant("Ho"))
    assert row.rejected == assistant("No")
    assert row.completion == "Ho"


def test_a_longer_conversation_that_both_share(tmp_path: Path) -> None:
    shared = [{"role": "system", "content": "S"}, user("a"), assistant("b"), user("c")]
    chosen, rejected = [*shared, assistant("yes")], [*shared, assistant("no")]
    row = read(tmp_path, {"chosen": chosen, "rejected": rejected}, system="other")
    assert row.messages == tuple(chosen)
    assert row.rejected == assistant("no")
    row = read(tmp_path, {"prompt": shared[:3], "chosen": chosen[3:], "rejected": rejected[3:]})
    assert row.messages == tuple(chosen)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            {
                "chosen": [user("a"), assistant("b"), user("c"), assistant("d")],
                "rejected": [user("a"), assistant("x"), user("c"), assistant("y")],
            },
            "chosen goes on for 3 turns where it parts from the other one; only a last answer",
        ),
        (
            {"chosen": [user("a"), assistant("b")], "rejected": [user("z"), assistant("y")]},
            "chosen goes on for 2 turns where it parts",
        ),
        (
            {
                "prompt": "a",
                "chosen": [user("b"), assistant("c")],
                "rejected": [user("b"), assistant("d")],
            },
            "begin with other turns than the prompt",
        ),
        (
            {"prompt": "a", "chosen": [user("a"), assistant("c"), user("d")], "rejected": "d"},
            "chosen goes on for 2 turns",
        ),
        (
            {"prompt": [user("a"), assistant("b")], "chosen": [user("c")], "rejected": "d"},
            "chosen ends with 'user'",
        ),
        ({"chosen": "a whole dialogue", "rejected": "another"}, "nothing that is answered"),
        (
            {"prompt": None, "chosen": "a", "rejected": "b"},
            "put what both answer into a column prompt",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "chosen and rejected are the same"),
        (
            {"prompt": "a", "chosen": [{**assistant("b"), "weight": 0}], "rejected": "c"},
            "the chosen answer is not to be learned",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "the rejected answer is empty"),
        ({"prompt": "a", "chosen": "b", "rejected": None}, "no rejected; every row needs one"),
        ({"prompt": "a", "chosen": 3, "rejected": "b"}, "chosen should be a string, is a number"),
        ({"prompt": "a", "chosen": [], "rejected": "b"}, "chosen should be a list of messages"),
    ],
)
def test_rows_that_prefer_nothing(tmp_path: Path, record: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, record, shape="preference")
    assert str(error.value).startswith("train.jsonl line 1: ")
    assert said in str(error.value)


def test_both_answers_are_written_the_same_way(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
        "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    prompter = Prompter.from_folder(write_tiny_tokenizer(tmp_path / "tok", template=template))
    chosen = {**assistant("Ho"), "reasoning_content": "short"}
    rejected = {**assistant("No"), "thinking": "long"}
    row = read(tmp_path, {"prompt": "Hi", "chosen": [chosen], "rejected": [rejected]})
    (pair,) = encode_pairs([row], prompter, 128)
    assert prompter.decode(pair["chosen_ids"]) == "<think>short</think>Ho"
    assert prompter.decode(pair["rejected_ids"]) == "<think>long</think>No"
