"""Tokenizer files from anyone: what is no file, what never ends, patterns that backtrack, texts that grow."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from edgepeft.data import tokenizer_files
from edgepeft.data.prompt import Prompter
from edgepeft.data.texts import WHOLE, TextEncoder
from edgepeft.data.tokenizer_checks import repeats_repetition
from edgepeft.errors import InputError
from tests.tiny import write_tiny_tokenizer

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "config.json",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_tokenizer(tmp_path / "tok")


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=f"{name}: is a pipe, not a file"):
        Prompter.from_folder(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(InputError, match=f"{name}: is a device, not a file"):
        Prompter.from_folder(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(InputError, match=f"{name}: is a folder, not a file"):
        Prompter.from_folder(folder)


@pytest.mark.parametrize("name", FILES)
def test_files_without_end(folder: Path, name: str) -> None:
    with (folder / name).open("wb") as stream:
        stream.truncate(10**12)
    with pytest.raises(InputError, match=rf"{name}: larger than \d+ bytes"):
        Prompter.from_folder(folder)


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_text(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\xff\xfe{")
    with pytest.raises(InputError, match=name):
        Prompter.from_folder(folder)


def test_deeply_nested_settings(folder: Path) -> None:
    for name in ("tokenizer_config.json", "tokenizer.json"):
        saved = (folder / name).read_text()
        (folder / name).write_text("[" * 100_000)
        with pytest.raises(InputError, match=name):
            Prompter.from_folder(folder)
        (folder / name).write_text(saved)


def change(folder: Path, **parts: Any) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **parts}))


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def replace(old: str, new: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: old}, "content": new}


REPEATING = [
    r"(a+)+$",
    r"(\w+\s?)*$",
    r"((ab)*)*",
    r"(?:[a-z]+)*x",
    r"(a{1,})+",
    r"(a*){20}",
    r"(?:(?:a+)b?)+",
]


@pytest.mark.parametrize("pattern", REPEATING)
def test_patterns_that_repeat_a_repetition(folder: Path, pattern: str) -> None:
    assert repeats_repetition(pattern)
    for parts in (
        {"pre_tokenizer": split(pattern)},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(pattern)]}},
        {"normalizer": replace(pattern, "b", "Regex")},
        {"decoder": replace(pattern, "b", "Regex")},
    ):
        saved = (folder / "tokenizer.json").read_text()
        change(folder, **parts)
        with pytest.raises(
            InputError, match=r"tokenizer\.json: its \w+ has a pattern that may never end"
        ):
            Prompter.from_folder(folder)
        with pytest.raises(InputError, match="may never end"):
            TextEncoder(folder, WHOLE)
        (folder / "tokenizer.json").write_text(saved)


@pytest.mark.parametrize(
    "pattern",
    [
        # Of GPT-2, GPT-4, GPT-4o, DeepSeek, BLOOM and Qwen.
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t)?|\p{N}{1,3}",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
        r" ?[^(\s|[.,!?…。，、।۔،])]+",
        r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))",
        *(r"(a++)*", r"(?>a+)*", r"(?:\r?\n)+(?!\r?\n)", r"[(a+)+]", r"\(a+\)+", r"{a+}", r"(a{3})*"),
        *("", "(", "["),
    ],
)  # fmt: skip
def test_patterns_in_use(pattern: str) -> None:
    assert not repeats_repetition(pattern)


def test_a_pattern_that_the_library_gives_up_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the look at the pattern sees nothing, the library's own limit ends the match."""
    monkeypatch.setattr(tokenizer_files, "check_steps", lambda tokenizer, name: None)
    change(folder, pre_tokenizer=split("(a+)+$"))
    prompter = Prompter.from_folder(folder)
    started = time.process_time()
    with pytest.raises(InputError, match=r"the tokenizer gave up on a text .*retry-limit"):
        prompter.prompt([{"role": "user", "content": "a" * 40 + "b"}])
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": {"type": "Sequence", "normalizers": [replace("a", "aa")] * 30}},
        {"normalizer": {"type": "Sequence", "normalizers": [replace("", "x")] * 30}},
        {"normalizer": replace("a", "a" * 1000)},
        {"normalizer": replace(".", "a" * 1000, "Regex")},
        {"normalizer": {"type": "Prepend", "prepend": "a" * 1000}},
        {"decoder": {"type": "Sequence", "decoders": [replace("a", "aa")] * 30}},
        {
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
                ]
                * 9,
            }
        },
    ],
)
def test_steps_that_make_a_text_huge(folder: Path, parts: dict[str, Any]) -> None:
    change(folder, **parts)
    with pytest.raises(
        InputError, match=r"tokenizer\.json: its \w+ makes a text more than 256 times as long"
    ):
        Prompter.from_folder(folder)


def test_thousands_of_steps(folder: Path) -> None:
    change(folder, normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}] * 1000})
    with pytest.raises(InputError, match="its normalizer has more than 64 steps"):
        Prompter.from_folder(folder)


def test_steps_in_use(folder: Path) -> None:
    """Those of Llama 2, T5 and Gemma change nothing."""
    for parts in (
        {
            "normalizer": {
                "type": "Sequence",
                "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")],
            }
        },
        {"normalizer": {"type": "Sequence", "normalizers": [replace(" {2,}", "▁", "Regex")] * 3}},
        {"decoder": {"type": "Sequence", "decoders": [replace("▁", " "), {"type": "Fuse"}]}},
    ):
        change(folder, **parts)
        assert Prompter.from_folder(folder).prompt([{"role": "user", "content": "a b"}])


@pytest.mark.parametrize("text", ["a\ud800b", "\udfff", "a\udcff\udcfeb"])
def test_texts_that_are_no_text(folder: Path, text: str) -> None:
    prompter, encoder = Prompter.from_folder(folder), TextEncoder(folder, WHOLE)
    said = "bytes that are not UTF-8" if "\udcff" in text else "half of a character|bytes that are"
    with pytest.raises(InputError, match=f"^the prompt holds ({said})"):
        prompter.prompt([{"role": "user", "content": text}])
    with pytest.raises(InputError, match=said):
        encoder.encode(text)
    with pytest.raises(InputError, match="the unknown role 'narrator'"):
        prompter.prompt([{"role": "narrator", "content": "a"}])
