"""Manifests and side files with other types than they should have: one line that names the key, no traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepeft.errors import EdgepeftError, InputError
from edgepeft.runtime import Bundle, Runtime
from tests.command import edgepeft
from tests.runtime.fabricate import edit_json

ODD: tuple[Any, ...] = (None, True, -1, 2**70, 1.5, "", "x\x1b[2J", [], [None], {}, {"a": []})


def keys_of(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of a manifest, but for those of its files, of which one is enough."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield (*path, name)
            yield from keys_of(value, (*path, name))


def put(tree: Any, path: tuple[str, ...], value: Any) -> Any:
    if not path:
        return value
    return {**tree, path[0]: put(tree[path[0]], path[1:], value)}


@pytest.fixture
def whole(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that runs, with every key that exporters write."""
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    for key, value in (
        ("fidelity", {"gates": "passed"}),
        ("settings", {"target": {"io_dtype": "fp32"}}),
        ("result.task", "text-generation"),
        ("result.verify_provider", "CPUExecutionProvider"),
        ("result.session_options", {}),
        ("result.vocab_size", 512),
        ("result.prompt", {"mode": "chat", "stop_ids": [2], "vocab_size": 300}),
    ):
        edit_json(folder / "edgepeft.json", key, value)
    return folder


def test_no_value_of_any_key_is_a_traceback(whole: Path) -> None:
    """Opened and asked, or refused by an error of ours in one line."""
    where = whole / "edgepeft.json"
    manifest = json.loads(where.read_text())
    Runtime(whole)
    opened: list[Bundle] = []
    said: list[str] = []
    for path in keys_of(manifest):
        for value in ODD:
            where.write_text(json.dumps(put(manifest, path, value)))
            try:
                opened.append(Bundle.open(whole, check="sizes"))
            except InputError as error:
                said.append(str(error))
    assert len(said) > len(opened) > 0
    assert not [message for message in said if "\n" in message or "\x1b" in message]
    assert all(isinstance(bundle.warning, str | None) for bundle in opened)


@pytest.mark.parametrize("name", ["genai_config.json", "config.json", "tokenizer_config.json"])
def test_side_files_of_any_content_are_one_line(whole: Path, name: str) -> None:
    """Truncated, of other types, not finite: their own hash is right, for whoever made them sealed them."""
    from tests.runtime.fabricate import write_manifest

    original = (whole / name).read_bytes()
    broken = [original[:size] for size in (0, 1, len(original) // 2, len(original) - 2)]
    broken += [b"null", b"[]", b'"x"', b"NaN", b"\xff\xfe", b"[" * 5000, b'{"chat_template": 4}']
    broken += [json.dumps(dict.fromkeys(json.loads(original), value)).encode() for value in ODD]
    said = []
    for content in broken:
        (whole / name).write_bytes(content)
        write_manifest(whole, context_length=512)
        try:
            Runtime(whole)
        except EdgepeftError as error:
            said.append(str(error))
        (whole / name).write_bytes(original)
    assert len(said) >= 10
    assert not [message for message in said if "\n" in message]


def test_the_command_says_it_in_one_line(whole: Path) -> None:
    for key, value in (
        ("result", []),
        ("outputs", {"x": 1}),
        ("result.model_file", ["x"]),
        ("result.labels", "x"),
        ("format", 10**30),
    ):
        original = (whole / "edgepeft.json").read_text()
        edit_json(whole / "edgepeft.json", key, value)
        for command in ("run", "serve", "verify", "bench"):
            done = edgepeft(command, whole, *(["hi"] if command == "run" else []))
            assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
            assert key.split(".")[0] in done.stderr
        (whole / "edgepeft.json").write_text(original)
