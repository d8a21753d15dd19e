"""A template that ignores ``add_generation_prompt`` gets what it begins an assistant's turn with."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepeft.data.checks import check_data
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Message, Row
from tests.data import templates_in_use
from tests.tiny import CHATML, write_tiny_tokenizer

TURNS = CHATML.partition("{% if add_generation_prompt %}")[0]
OPENING = "<|im_start|>assistant\n"


def conversation(*contents: str, system: str | None = None) -> list[Message]:
    first: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    roles = ("user", "assistant")
    return [*first, *({"role": roles[i % 2], "content": c} for i, c in enumerate(contents))]  # type: ignore[list-item]


def prompter_of(folder: Path, template: str) -> Prompter:
    return Prompter.from_folder(write_tiny_tokenizer(folder, template=template))


def shown(prompter: Prompter, ids: list[int]) -> str:
    text: str = prompter.tokenizer.decode(ids, skip_special_tokens=False)
    return text


@pytest.mark.parametrize(
    "ending", ["", "\n", "\r\n", "\n\n", "{# \n #}\n", "{%- if 1 %}{% endif -%}\n"]
)
def test_the_opening_is_added(tmp_path: Path, ending: str) -> None:
    prompter = prompter_of(tmp_path / "tok", TURNS + ending)
    assert prompter.asking is not None
    assert (prompter.asking.how, prompter.asking.opening) == ("added", OPENING)
    asked = shown(prompter, prompter.prompt(conversation("Hi")))
    assert asked == f"<|im_start|>user\nHi<|im_end|>\n{OPENING}"
    row = Row(tuple(conversation("Hi", "Ho", "a", "b")), None, "w")
    encoded = prompter.row(row)
    learned = [token for token, keep in zip(encoded.ids, encoded.mask, strict=True) if keep]
    # The header is asked with and never learned, in any turn.
    assert shown(prompter, learned) in ("Ho<|im_end|>b<|im_end|>", "b<|im_end|>")
    assert prompter.decode(prompter.split(row)[1]) == "b"


def test_the_bundles_template_asks_alike(tmp_path: Path) -> None:
    """What is stored is the mended template: read again it needs no mending, and others read it too."""
    prompter = prompter_of(tmp_path / "tok", TURNS)
    assert prompter.template_source is not None
    stored = write_tiny_tokenizer(tmp_path / "bundle", template=prompter.template_source)
    again = Prompter.from_folder(stored)
    assert again.asking is not None
    assert again.asking.how == "own"
    assert again.template_source == prompter.template_source
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoTokenizer.from_pretrained(stored)
    for messages in (
        conversation("Hi"),
        conversation("Hi", system="S"),
        conversation("a", "b", "c"),
    ):
        wanted = reference.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        assert prompter.prompt(messages) == again.prompt(messages) == wanted
        whole = reference.apply_chat_template(messages, tokenize=False)
        assert whole == prompter.renderer.conversation(messages).text


@pytest.mark.parametrize(
    "template",
    [
        CHATML,
        # The answer begins right behind the question, after at most a space.
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}<|im_end|>{% endif %}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{{ '<|im_end|>' if m.role == 'assistant' }}{% endfor %}",
        # It is always there.
        TURNS + OPENING,
    ],
)
def test_templates_that_need_none(tmp_path: Path, template: str) -> None:
    prompter = prompter_of(tmp_path / "tok", template)
    assert prompter.asking is not None
    assert prompter.asking.how == "own"
    assert prompter.template_source == template


def test_templates_in_use_need_none(tmp_path: Path) -> None:
    hows = {
        Prompter.from_folder(templates_in_use.write_folder(tmp_path / name, name)).asking.how  # type: ignore[union-attr]
        for name in templates_in_use.names()[::6]
    }
    assert hows == {"own"}


def test_an_opening_that_cannot_be_told(tmp_path: Path) -> None:
    numbered = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + ' ' + loop.index | string + '\n' + m.content + "
        "'<|im_end|>\n' }}{% endfor %}"
    )
    prompter = prompter_of(tmp_path / "tok", numbered)
    assert prompter.asking is not None
    assert prompter.asking.how == "unknown"
    row = Row(tuple(conversation("Hi", "Ho")), None, "train line 1")
    warnings = check_data([row], [row], prompter, max_length=64).warnings
    assert any(
        "it can't be told from how it writes an assistant's turn; set data.template" in w
        for w in warnings
    )
    assert any("write 2 answers otherwise than the rows" in w for w in warnings)


def test_what_is_added_is_told(tmp_path: Path) -> None:
    prompter = prompter_of(tmp_path / "tok", TURNS)
    row = Row(tuple(conversation("Hi", "Ho")), None, "train line 1")
    warnings = check_data([row], [row], prompter, max_length=64).warnings
    assert any("has no generation prompt" in w and repr(OPENING) in w for w in warnings)
    assert not any("otherwise" in w for w in warnings)


def test_letters_of_all_scripts_and_quotes_in_an_opening(tmp_path: Path) -> None:
    odd = "{% for m in messages %}{{ '<|' + m.role + '｜\"\\\\助手\\'|>\n' + m.content }}<|im_end|>{% endfor %}"
    prompter = prompter_of(tmp_path / "tok", odd)
    asked = shown(prompter, prompter.prompt(conversation("Hi")))
    assert asked.endswith("<|im_end|><|assistant｜\"\\助手'|>\n")
