"""Reading a model folder's tokenizer files: tokenizer, special tokens, template, end tokens."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from edgepeft.data.plain_text import refuse_halves
from edgepeft.data.tokenizer_checks import check_steps
from edgepeft.errors import InputError, one_line
from edgepeft.utils.files import read_bytes_file, read_text_file

TOKENIZER_BYTES = 128 * 10**6
"""Bytes of a tokenizer; the largest in use have some 35 millions."""
TEMPLATE_BYTES = 10**6


def read_json(path: Path) -> dict[str, Any]:
    """The object in ``path``, empty if there is no such file; InputError if it is corrupt."""
    try:
        value = json.loads(read_text_file(path))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: cannot be read as JSON ({one_line(error)}); fetch the model again"
        ) from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: should hold a JSON object; fetch the model again")
    return value


def read_special_tokens(folder: Path) -> dict[str, str]:
    """Name (``bos_token``, …) to text, from tokenizer_config and the older map file."""
    named: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        config = read_json(folder / name)
        nested = config.get("extra_special_tokens")
        for source in (nested if isinstance(nested, dict) else {}, config):
            for key, value in source.items():
                text = value.get("content") if isinstance(value, dict) else value
                if key.endswith("_token") and isinstance(text, str):
                    named[key] = text
    return named


def read_control_tokens(folder: Path) -> list[str]:
    """Tokens that a tokenizer's configuration names as control tokens beside the special ones."""
    named = read_json(folder / "tokenizer_config.json").get("chat_control_tokens")
    return [text for text in named if isinstance(text, str)] if isinstance(named, list) else []


def read_tokenizer(folder: Path, special_tokens: Mapping[str, str]) -> Tokenizer:
    """``folder``'s tokenizer.json, ready to encode whole texts.

    Raises InputError if the file is missing or corrupt.
    """
    path = folder / "tokenizer.json"
    try:
        content = read_bytes_file(path, TOKENIZER_BYTES)
    except FileNotFoundError:
        raise InputError(
            f"{path}: not found; save the model's fast tokenizer there "
            "(AutoTokenizer.from_pretrained(...).save_pretrained(folder))"
        ) from None
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except BaseException as error:  # the library raises bare Exception
        if not (isinstance(error, Exception) or _is_panic(error)):
            raise
        raise InputError(
            f"{path}: not a readable tokenizer ({one_line(error)}); fetch the model again"
        ) from error
    check_steps(tokenizer, str(path))
    # A training run may have left its truncation or padding in the file; ours are whole texts.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # A special token may be in the vocabulary without being registered as one (GGUF conversions):
    # it would then be split like any word. transformers registers it on loading, and so do we.
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for text in dict.fromkeys(special_tokens.values()):
        if text not in known and tokenizer.token_to_id(text) is not None:
            tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True)])
    return tokenizer


def vocab_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id the tokenizer can give; added tokens may leave holes below."""
    added = max(tokenizer.get_added_tokens_decoder(), default=-1)
    return max(int(tokenizer.get_vocab_size(with_added_tokens=True)), added + 1)


def _is_panic(error: BaseException) -> bool:
    """Whether Rust code gave up, which reaches Python as no Exception."""
    return type(error).__name__ == "PanicException"


def encode(tokenizer: Tokenizer, text: str, second: str | None = None, *, whole: bool) -> Any:
    """tokenizers' encoding of ``text``, or of it and a ``second`` one together; with ``whole``, with what the
    tokenizer puts around them.

    Raises InputError for half characters, and where a pattern of the tokenizer tries too long.
    """
    for one in (text, second or ""):
        refuse_halves(one, "the text")
    try:
        return tokenizer.encode(text, second, add_special_tokens=whole)
    except BaseException as error:
        # The library's regular expressions end in a panic after ten million tries.
        if not _is_panic(error):
            raise
        raise InputError(
            f"the tokenizer gave up on a text ({one_line(error)[:100]}); fetch the model again"
        ) from None


def read_chat_template(folder: Path) -> tuple[str, str] | None:
    """(source, the file it came from) of the folder's chat template, or None if it has none."""
    path = folder / "chat_template.jinja"
    if os.path.lexists(path):
        return read_template_file(path), str(path)
    path = folder / "tokenizer_config.json"
    template = read_json(path).get("chat_template")
    if template is None:
        # The processor's own, where older releases of transformers wrote it.
        path = folder / "chat_template.json"
        template = read_json(path).get("chat_template")
    if isinstance(template, list):
        by_name = {
            entry.get("name"): entry.get("template")
            for entry in template
            if isinstance(entry, dict)
        }
        template = by_name.get("default")
        if template is None and by_name:
            raise InputError(
                f"{path}: chat_template has no 'default' among {sorted(map(str, by_name))}; "
                "set data.template to a file"
            )
    if template is None:
        return None
    if not isinstance(template, str):
        raise InputError(f"{path}: chat_template should be a string; set data.template to a file")
    return template, str(path)


def read_template_file(path: Path) -> str:
    """The text of a jinja file. Raises InputError if it cannot be read."""
    try:
        return read_text_file(path, TEMPLATE_BYTES)
    except FileNotFoundError:
        raise InputError(
            f"data.template: {path}: cannot be read (no such file, and not auto, chat or plain)"
        ) from None


def read_eos_ids(folder: Path, size: int) -> list[int]:
    """End-of-sequence ids below ``size`` in generation_config.json, config.json, then genai_config.json."""
    found: list[int] = []
    generation = read_json(folder / "generation_config.json")
    config = read_json(folder / "config.json")
    text = config.get("text_config")
    # A bundle laid out for onnxruntime-genai alone has no other file that names them all.
    genai = read_json(folder / "genai_config.json").get("model")
    for source in (generation, config, text, genai):
        if not isinstance(source, dict):
            continue
        value = source.get("eos_token_id")
        for token in value if isinstance(value, list) else [value]:
            # `type is int`: true is an int to Python, and no token id.
            if type(token) is int and 0 <= token < size and token not in found:
                found.append(token)
    return found
