"""Templates of models that take images read a turn as parts: a text, which is all that is given, must be in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest

from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Message, Row
from edgepeft.data.template_checks import render_kinds
from edgepeft.errors import InputError
from tests.tiny import CHATML, write_tiny_tokenizer

OF_LINES = (
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n{% for line in turn['content'] %}"
    "{% if line['type'] == 'image' %}<image>{% elif line['type'] == 'text' %}{{ line['text'] }}"
    "{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SELECTING = (
    "\n{% for turn in messages %}{{ turn.role | upper }}: "
    "{% for part in turn.content | selectattr('type', 'equalto', 'text') %}{{ part.text }} "
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
TURNS: list[Message] = [
    {"role": "user", "content": "turn on the lamp"},
    {"role": "assistant", "content": "lamp_on"},
]


def prompter_of(folder: Path, template: str) -> Prompter:
    return Prompter.from_folder(write_tiny_tokenizer(folder, template=template))


@pytest.mark.parametrize("template", [OF_LINES, SELECTING])
def test_a_text_is_given_as_the_part_that_the_template_reads(tmp_path: Path, template: str) -> None:
    prompter = prompter_of(tmp_path / "tok", template)
    of_parts: Any = [
        {"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]}
        for turn in TURNS
    ]
    plain = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(template)
    asked = plain.render(messages=of_parts[:1], add_generation_prompt=True)
    assert "turn on the lamp" in asked
    assert prompter.renderer.prompt(TURNS[:1]).text == asked
    # What a device is given, as other runtimes read it.
    shipped = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(
        prompter.template_source or ""
    )
    assert shipped.render(messages=TURNS[:1], add_generation_prompt=True) == asked
    assert shipped.render(messages=of_parts[:1], add_generation_prompt=True) == asked
    _, completion = prompter.split(Row(tuple(TURNS), None, "row 1"))
    assert "lamp_on" in prompter.decode(completion)


def test_a_template_that_reads_text_is_left_alone(tmp_path: Path) -> None:
    assert prompter_of(tmp_path / "tok", CHATML).template_source == CHATML


def test_a_template_that_says_nothing_of_a_turn_is_refused(tmp_path: Path) -> None:
    silent = "{% for turn in messages %}{{ turn['role'] }}{% endfor %}"
    folder = write_tiny_tokenizer(tmp_path / "tok", template=silent)
    rows = [Row(tuple(TURNS), None, "row 1")]
    with pytest.raises(InputError, match=r"row 1: the chat template leaves out what turns say"):
        render_kinds(folder, "auto", "text", rows)
    # Others cut what is said, which is their own matter.
    cut = CHATML.replace("message['content']", "message['content'][:4] ~ '!'")
    assert prompter_of(tmp_path / "cut", cut).template_source == cut


def test_a_processors_template_is_read(tmp_path: Path) -> None:
    folder = write_tiny_tokenizer(tmp_path / "tok", template=None)
    assert Prompter.from_folder(folder).mode == "plain"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": OF_LINES}))
    prompter = Prompter.from_folder(folder)
    assert "turn on the lamp" in prompter.renderer.prompt(TURNS[:1]).text
