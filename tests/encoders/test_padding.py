"""A decoder's head takes the last token that is no padding, which may be none that a text ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgepeft.data.texts import TextEncoder
from tests.tiny import write_tiny_tokenizer


def without_pad(folder: Path) -> Path:
    write_tiny_tokenizer(folder)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        if path.is_file():
            said = json.loads(path.read_text())
            said.pop("pad_token", None)
            path.write_text(json.dumps(said))
    return folder


def test_no_pad_token_is_not_the_first_token(tmp_path: Path) -> None:
    encoder = TextEncoder(without_pad(tmp_path), 16)
    assert encoder.named_pad is None
    assert encoder.end is not None


@pytest.mark.parametrize("stated", [None, 7])
def test_the_model_may_state_it(tmp_path: Path, stated: int | None) -> None:
    folder = without_pad(tmp_path)
    (folder / "config.json").write_text(json.dumps({"pad_token_id": stated}))
    assert TextEncoder(folder, 16).pad_id == (stated or 0)
