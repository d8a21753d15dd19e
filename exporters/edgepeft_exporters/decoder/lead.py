"""The tokenizer's side of virtual tokens: names for their ids, and both ways of asking begin with them.

A tokenizer puts them before raw text as it does a beginning-of-sequence token, through its post-processor; a chat
template writes them at its very beginning, which tokenizers read without their post-processor. So they come once,
before everything else, in every runtime that reads these files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgepeft.data.prompt import Prompter
from edgepeft.errors import EdgepeftError, InputError


def lead_with(folder: Path, before: Prompter, ids: range) -> Prompter:
    """Have a bundle's files put the virtual tokens ``ids`` before every prompt.

    ``before`` asks without them. Returns the prompter of the files. Raises EdgepeftError.
    """
    _add_to_tokenizer(folder, ids.start, len(ids), before.vocab_size)
    for name, key in (("config.json", None), ("genai_config.json", "model")):
        path = folder / name
        config = json.loads(path.read_text(encoding="utf-8"))
        (config if key is None else config[key])["vocab_size"] = ids.stop
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return _checked(before, folder, ids)


def _add_to_tokenizer(folder: Path, first: int, count: int, size: int) -> None:
    """Teach a bundle's tokenizer and chat template ``count`` virtual tokens from the id ``first`` on.

    ``size`` is how many ids it has; those between are given names too, for a tokenizer numbers without holes.
    """
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    taken = {entry["content"] for entry in tokenizer["added_tokens"]} | _vocabulary(tokenizer)
    unused = [_free(f"unused-{number}", taken) for number in range(size, first)]
    names = [_free(f"virtual-{number}", taken) for number in range(count)]
    tokenizer["added_tokens"] += [
        _special(size + index, name) for index, name in enumerate([*unused, *names])
    ]
    ids = {name: first + index for index, name in enumerate(names)}
    tokenizer["post_processor"] = leading(tokenizer.get("post_processor"), ids)
    path.write_text(json.dumps(tokenizer, ensure_ascii=False) + "\n", encoding="utf-8")

    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if "added_tokens_decoder" in config:
        for token in [_special(size + i, name) for i, name in enumerate([*unused, *names])]:
            config["added_tokens_decoder"][str(token.pop("id"))] = token
    if "chat_template" in config:
        config["chat_template"] = "".join(names) + config["chat_template"]
        (folder / "chat_template.jinja").write_text(config["chat_template"], encoding="utf-8")
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _checked(before: Prompter, folder: Path, ids: Sequence[int]) -> Prompter:
    """The bundle's own prompter, once it asks as ``before`` does but for ``ids`` in front.

    Raises EdgepeftError where it does not.
    """
    mode = before.mode if before.mode == "chat" else "plain"
    after = Prompter.from_folder(folder, mode, "text" if before.control.as_text else "tokens")
    question: list[Any] = [{"role": "user", "content": "How are you?"}]
    answered = [*question, {"role": "assistant", "content": "Well."}, *question]
    pairs = [(before.text(text), after.text(text)) for text in ("", "How are you?")]
    for messages in (question, answered):
        try:
            pairs.append((before.prompt(messages), after.prompt(messages)))
        except InputError:
            continue  # a template may want other messages than these
    if any([*ids, *old] != new for old, new in pairs) or before.stop_ids != after.stop_ids:
        raise EdgepeftError(
            "the tokenizer does not put the virtual tokens once before a prompt; this tokenizer is not supported"
        )
    return after


def _vocabulary(tokenizer: dict[str, Any]) -> set[str]:
    """The model's own tokens, whether listed by name (BPE, WordPiece) or in pairs with a score (Unigram)."""
    vocabulary = tokenizer["model"].get("vocab", [])
    return {token if isinstance(token, str) else token[0] for token in vocabulary}


def _free(name: str, taken: set[str]) -> str:
    text = f"<|{name}|>"
    while text in taken:
        text = f"<{text}>"
    return text


def _special(number: int, text: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": text, **flags, "special": True}


def leading(processor: Any, ids: dict[str, int]) -> dict[str, Any]:
    """A post-processor that puts tokens first, and then does what ``processor`` did."""
    parts = [{"SpecialToken": {"id": name, "type_id": 0}} for name in ids]
    known = {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in ids.items()}
    steps = processor["processors"] if (processor or {}).get("type") == "Sequence" else [processor]
    steps = [step for step in steps if step is not None]
    template = next((step for step in steps if step["type"] == "TemplateProcessing"), None)
    if template is None:
        sequence = {"Sequence": {"id": "A", "type_id": 0}}
        template = {"type": "TemplateProcessing", "single": [sequence], "special_tokens": {}}
        template["pair"] = [sequence, {"Sequence": {"id": "B", "type_id": 1}}]
        steps.append(template)
    template["single"] = [*parts, *template["single"]]
    template["pair"] = [*parts, *template["pair"]]
    template["special_tokens"] = {**template["special_tokens"], **known}
    return steps[0] if len(steps) == 1 else {"type": "Sequence", "processors": steps}
