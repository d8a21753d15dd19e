"""The prompt function against transformers itself, on templates in the styles found in the wild."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Message, Row
from edgepeft.errors import InputError
from tests.tiny import BOS, CHATML, EOS, write_tiny_tokenizer

LLAMA3 = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
GEMMA = """{{ bos_token }}
{% if messages[0]['role'] == 'system' %}
{{ raise_exception('System role not supported') }}
{% endif %}
{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{% endif %}
{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""
QWEN3 = """{%- set ns = namespace(multi_step=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string %}
        {%- set ns.multi_step = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role != "assistant" %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
        {%- continue %}
    {%- endif %}
    {%- set content = message.content %}
    {%- set thoughts = '' %}
    {%- if '</think>' in content %}
        {%- set thoughts = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if loop.index0 > ns.last %}
        {{- '<think>\\n' + thoughts + '\\n</think>\\n\\n' }}
    {%- endif %}
    {%- generation %}{{- content + '<|im_end|>' }}{% endgeneration %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
# The generation prompt opens a reasoning block that a finished turn does not show.
REASONING = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}{{ '<|Assistant|>' + message.content + '\n<|end|>' }}"
    "{% else %}{{ '<|User|>' + message.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
ODDITIES = (
    "{{ strftime_now('%Y') }}{{ tools }}{{ documents }}{{ unk_token }}[{{ sep_token }}]"
    "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}\n"
    "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ '' if loop.last else ', ' }}"
    "{% if loop.index > 1 %}{% break %}{% endif %}{% endfor %}\n  {% if true %}\n x\n  {% endif %}"
    "{% set block %}<{{ messages[0].content }}>{% endset %}{{ block ~ ' ' ~ 3 * 'ab' }}"
    "{{ dict(a=1).items() | list }}{% macro hi(x) %}hi {{ x }}{% endmacro %}{{ hi(2) }}\n"
)
STYLES = {
    "chatml": (CHATML, ()),
    "llama3": (LLAMA3, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    "gemma": (GEMMA, ("<start_of_turn>", "<end_of_turn>")),
    "qwen3": (QWEN3, ()),
    "reasoning": (REASONING, ("<|User|>", "<|Assistant|>", "<|end|>")),
    "oddities": (ODDITIES, ()),
}


def turns(*contents: str, system: str | None = None) -> tuple[Message, ...]:
    first: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    roles = ("user", "assistant")
    return (*first, *(Message(role=roles[i % 2], content=c) for i, c in enumerate(contents)))


def row(*contents: str, system: str | None = None) -> Row:
    return Row(turns(*contents, system=system), None, "train.jsonl line 3")


def folder_for(tmp_path: Path, style: str) -> Path:
    template, extra = STYLES[style]
    return write_tiny_tokenizer(tmp_path / style, template=template, extra=extra, bos=True)


def prompter_for(tmp_path: Path, template: str, **options: object) -> Prompter:
    return Prompter.from_folder(
        write_tiny_tokenizer(tmp_path / "tok", template=template, **options)
    )


def text_of(prompter: Prompter, ids: list[int]) -> str:
    """The ids as text with every special token shown."""
    text: str = prompter.tokenizer.decode(ids, skip_special_tokens=False)
    return text


CONVERSATIONS = [
    turns("What is the colour of grass?"),
    turns("  two  spaces\n\nand lines \t\n"),
    turns("Hi", "Hello.", "你好 🙂 naïve <|im_end|> inside"),
    turns("a", "b", "c", "d", "e"),
]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("messages", CONVERSATIONS, ids=range(len(CONVERSATIONS)))
def test_prompt_is_transformers_own(
    tmp_path: Path, style: str, messages: tuple[Message, ...]
) -> None:
    transformers = pytest.importorskip("transformers")
    folder = folder_for(tmp_path, style)
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    expected = reference.apply_chat_template(list(messages), add_generation_prompt=True)
    # transformers takes look-alikes of control tokens for the tokens, unless it is told otherwise.
    prompter = Prompter.from_folder(folder, "auto", "tokens")
    assert prompter.prompt(messages) == expected["input_ids"]


@pytest.mark.parametrize("style", ["chatml", "llama3", "gemma", "qwen3"])
def test_prompt_and_completion_are_transformers_whole_conversation(
    tmp_path: Path, style: str
) -> None:
    transformers = pytest.importorskip("transformers")
    folder = folder_for(tmp_path, style)
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    example = row("What is the colour of snow?", "white", "And of coal?", "k")
    whole = reference.apply_chat_template(list(example.messages or ()))["input_ids"]
    prompter = Prompter.from_folder(folder)
    encoded = prompter.row(example)
    # What is missing at the end is only what the template writes after the stop token.
    assert encoded.ids == whole[: len(encoded.ids)]
    assert encoded.ids[-1] in prompter.stop_ids
    assert prompter.decode(whole[len(encoded.ids) :]).strip() == ""
    prompt, completion = prompter.split(example)
    assert prompt + completion == encoded.ids
    assert prompt == prompter.prompt(example.prompt_messages)


def test_system_messages(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    messages = turns("Hi", system="Be brief.")
    for style in ("chatml", "llama3", "qwen3"):
        folder = folder_for(tmp_path, style)
        reference = transformers.AutoTokenizer.from_pretrained(folder)
        expected = reference.apply_chat_template(list(messages), add_generation_prompt=True)
        assert Prompter.from_folder(folder).prompt(messages) == expected["input_ids"]
    gemma = Prompter.from_folder(folder_for(tmp_path, "gemma"))
    with pytest.raises(InputError, match=r"line 3: System role not supported"):
        gemma.row(row("Hi", "Ho", system="Be brief."))


@pytest.mark.parametrize("style", ["chatml", "llama3", "gemma"])
def test_every_assistant_turn_is_learned(tmp_path: Path, style: str) -> None:
    prompter = Prompter.from_folder(folder_for(tmp_path, style))
    encoded = prompter.row(row("Hi", "first answer", "More", "second", "Bye", "third"))
    learned = [token for token, keep in zip(encoded.ids, encoded.mask, strict=True) if keep]
    end = text_of(prompter, [prompter.eos_id or -1])
    assert text_of(prompter, learned) == f"first answer{end}second{end}third{end}"
    assert len(encoded.ids) == len(encoded.mask)


def test_only_the_last_turn_is_learned_where_earlier_ones_are_rendered_otherwise(
    tmp_path: Path,
) -> None:
    prompter = Prompter.from_folder(folder_for(tmp_path, "qwen3"))
    encoded = prompter.row(row("Hi", "first", "More", "second"))
    learned = [token for token, keep in zip(encoded.ids, encoded.mask, strict=True) if keep]
    assert text_of(prompter, learned) == f"<think>\n\n</think>\n\nsecond{EOS}"


@pytest.mark.parametrize("answer", ["end", " spaced ", "y"])
def test_a_turn_that_does_not_begin_with_its_prompt_still_ends_properly(
    tmp_path: Path, answer: str
) -> None:
    prompter = Prompter.from_folder(folder_for(tmp_path, "reasoning"))
    prompt, completion = prompter.split(row("Hi", answer))
    assert text_of(prompter, prompt) == "<|User|>Hi<|Assistant|><think>\n"
    assert text_of(prompter, completion) == answer + "\n<|end|>"


def test_template_that_drops_the_answer_gives_completion_and_eos(tmp_path: Path) -> None:
    prompter = prompter_for(
        tmp_path, "{{ messages[0].content }}{% if add_generation_prompt %}>{% endif %}"
    )
    prompt, completion = prompter.split(row("Hi", "Ho"))
    assert (text_of(prompter, prompt), text_of(prompter, completion)) == ("Hi>", "Ho" + EOS)


def test_eos_is_appended_where_the_template_writes_none(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    template += "{% if add_generation_prompt %}assistant: {% endif %}"
    prompter = prompter_for(tmp_path, template)
    assert text_of(prompter, prompter.split(row("Hi", "Ho"))[1]) == "Ho\n" + EOS


def test_completion_is_cut_at_its_first_stop_token(tmp_path: Path) -> None:
    folder = write_tiny_tokenizer(tmp_path / "tok")
    prompter = Prompter.from_folder(folder, "auto", "tokens")
    assert text_of(prompter, prompter.split(row("Hi", f"a{EOS}b"))[1]) == f"a{EOS}"


def test_stop_ids_come_from_every_file_and_from_the_template(tmp_path: Path) -> None:
    folder = folder_for(tmp_path, "gemma")
    (folder / "config.json").write_text(
        json.dumps({"eos_token_id": [7, 10**6, True, None], "text_config": {"eos_token_id": 9}})
    )
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 8}))
    prompter = Prompter.from_folder(folder)
    end = prompter.tokenizer.token_to_id("<end_of_turn>")
    eos = prompter.tokenizer.token_to_id(EOS)
    assert prompter.stop_ids == {7, 8, 9, end, eos}
    assert prompter.eos_id == end
    assert Prompter.from_folder(folder, "plain").stop_ids == {7, 8, 9, eos}


def test_plain_mode_uses_the_tokenizers_bos_and_strips_the_eos_it_adds(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, processors

    folder = write_tiny_tokenizer(tmp_path / "tok")
    path = folder / "tokenizer.json"
    inner = Tokenizer.from_file(str(path))
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}",
        special_tokens=[(token, inner.token_to_id(token)) for token in (BOS, EOS)],
    )
    inner.enable_truncation(3)
    inner.enable_padding(length=50)
    inner.save(str(path))
    prompter = Prompter.from_folder(folder, "plain")
    prompt, completion = prompter.split(row("What is the colour?", "blue", system="Be brief."))
    assert text_of(prompter, prompt) == f"{BOS}Be brief.\nWhat is the colour?\n"
    assert text_of(prompter, completion) == f"blue{EOS}"
    assert prompter.prompt(turns("Hi")) == prompter.text("Hi\n")
    # An EOS that the text itself ends with is not the post-processor's to strip.
    assert text_of(prompter, prompter.text(f"a{EOS}")) == f"{BOS}a{EOS}"
    encoded = prompter.row(Row(None, "plain text", "a.txt line 1"))
    assert text_of(prompter, encoded.ids) == f"{BOS}plain text{EOS}"
    assert encoded.mask == [1] * len(encoded.ids)


def test_model_without_end_token_cannot_be_trained(tmp_path: Path) -> None:
    folder = write_tiny_tokenizer(tmp_path / "tok", template=None)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["eos_token"]
    path.write_text(json.dumps(config))
    prompter = Prompter.from_folder(folder)
    assert (prompter.mode, prompter.stop_ids, prompter.eos_id) == ("plain", frozenset(), None)
    with pytest.raises(InputError, match=r"line 3; name eos_token"):
        prompter.row(row("Hi", "Ho"))


def test_where_the_template_comes_from(tmp_path: Path) -> None:
    folder = write_tiny_tokenizer(tmp_path / "tok", template=None)
    assert Prompter.from_folder(folder).mode == "plain"
    with pytest.raises(InputError, match="no chat template"):
        Prompter.from_folder(folder, "chat")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    for template, expected in (("S", "S"), (named, "D")):
        (folder / "tokenizer_config.json").write_text(
            json.dumps({**config, "chat_template": template})
        )
        assert Prompter.from_folder(folder, "chat").template_source == expected
    (folder / "chat_template.jinja").write_text("J")
    assert Prompter.from_folder(folder).template_source == "J"
    mine = tmp_path / "mine.jinja"
    mine.write_text("M")
    prompter = Prompter.from_folder(folder, str(mine))
    assert (prompter.template_source, prompter.mode) == ("M", "chat")
    with pytest.raises(InputError, match=r"nowhere\.jinja"):
        Prompter.from_folder(folder, str(tmp_path / "nowhere.jinja"))


def test_special_tokens_as_objects_and_unregistered(tmp_path: Path) -> None:
    folder = write_tiny_tokenizer(tmp_path / "tok", template="{{ eos_token }}|{{ bos_token }}")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["bos_token"]
    # "device" is an ordinary word of the vocabulary: named as a special token it is kept whole.
    flags = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False)
    config["eos_token"] = {"__type": "AddedToken", "content": "Ġdevice", **flags}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps({"bos_token": BOS}))
    prompter = Prompter.from_folder(folder)
    assert prompter.bos_id == prompter.tokenizer.token_to_id(BOS)
    ids = prompter.prompt(turns("Hi"))
    assert (ids[0], ids[-1]) == (prompter.eos_id, prompter.bos_id)
    assert prompter.eos_id == prompter.tokenizer.token_to_id("Ġdevice")
    reference = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)
    assert ids == reference.apply_chat_template([{"role": "user", "content": "Hi"}])["input_ids"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", None),
        ("tokenizer.json", "{"),
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", "[1]"),
        ("generation_config.json", "{"),
        ("chat_template.jinja", "{% for %}"),
        ("chat_template.jinja", "{{ messages | nosuchfilter }}"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: str | None) -> None:
    folder = write_tiny_tokenizer(tmp_path / "tok")
    (folder / name).unlink(missing_ok=True)
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(InputError) as error:
        Prompter.from_folder(folder)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ raise_exception('no\nsuch role') }}", "fails on the messages: no such role"),
        ("{{ messages[0].content.missing.more }}", "has no attribute 'missing'"),
        ("{{ 1 // 0 }}", "fails on the messages: ZeroDivisionError"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
    ],
)
def test_failing_templates_are_input_errors(tmp_path: Path, template: str, expected: str) -> None:
    with pytest.raises(InputError) as error:
        prompter_for(tmp_path, template).prompt(turns("Hi"))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_no_messages_is_an_input_error(tmp_path: Path) -> None:
    prompter = prompter_for(tmp_path, CHATML)
    with pytest.raises(InputError, match="no message"):
        prompter.prompt([])


def test_stream_gives_whole_characters_and_the_same_text(tmp_path: Path) -> None:
    prompter = prompter_for(tmp_path, CHATML)
    text = "Hello 🙂 ελληνικά 你好, naïve café"
    ids = prompter.tokenizer.encode(text, add_special_tokens=False).ids
    assert len(ids) > len(text.split())
    push = prompter.stream()
    pieces = [push(token) for token in [*ids, prompter.eos_id or -1]]
    assert "".join(pieces) == text == prompter.decode([*ids, prompter.eos_id or -1])
    assert "\ufffd" not in "".join(pieces)
    assert "" in pieces[:-1]  # somewhere it did wait for the rest of a character


def test_stream_survives_bytes_that_are_no_text() -> None:
    # tokenizers' own DecodeStream raises here.
    from tokenizers import Tokenizer, decoders, models

    vocab = {"<s>": 0, "</s>": 1, "▁word": 2} | {f"<0x{i:02X}>": 3 + i for i in range(256)}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    prompter = Prompter(inner, None, {"eos_token": "</s>"}, [], "tiny")
    push = prompter.stream()
    ids = [2, 2, 3 + 0xF0, 3 + 0x41, 2, 3 + 0xE4, 3 + 0xBD, 3 + 0xA0, 2, 1]
    pieces = [push(token) for token in ids]
    assert pieces[:2] == ["word", " word"]
    assert pieces[5:] == ["", "", "你", " word", ""]
    # With the byte that follows, the character already given is no character any more.
    push = prompter.stream()
    pieces = [push(token) for token in (3 + 0xE4, 3 + 0xBD, 3 + 0xA0, 3 + 0xE4, 2)]
    assert pieces == ["", "", "你", "", "\ufffd word"]


def test_describe_tells_templates_apart(tmp_path: Path) -> None:
    folder = write_tiny_tokenizer(tmp_path / "tok")
    chat, plain = Prompter.from_folder(folder), Prompter.from_folder(folder, "plain")
    other = tmp_path / "other.jinja"
    other.write_text(CHATML + " ")
    digests = {
        p.describe()["template_sha256"]
        for p in (chat, plain, Prompter.from_folder(folder, str(other)))
    }
    assert len(digests) == 3
    assert None in digests
    assert json.loads(json.dumps(chat.describe()))["mode"] == "chat"
    assert chat.vocab_size == chat.tokenizer.get_vocab_size()


def test_stays_light() -> None:
    heavy = "torch", "transformers", "numpy", "pyarrow"
    code = f"import sys, edgepeft.data.prompt; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "[]"
