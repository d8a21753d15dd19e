"""Files of a bundle: listed, hashed once, regular, its own; what is unlisted is neither read nor passed over."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepeft.bundle import files, listing
from edgepeft.bundle.files import DamagedError, read_json, sha256_of
from edgepeft.bundle.listing import unlisted
from edgepeft.errors import InputError
from edgepeft.runtime import Bundle
from tests.command import edgepeft
from tests.runtime.fabricate import DATA, MODEL, edit_json, write_manifest


def refusal(folder: Path) -> str:
    """The one line that ``Bundle.open`` says, whatever is compared."""
    said = set()
    for check in ("hashes", "sizes", "none"):
        with pytest.raises(InputError) as caught:
            Bundle.open(folder, check=check)
        said.add(str(caught.value))
    (message,) = said
    assert "\n" not in message
    return message


# What the manifest does not list.

READ_BY_SOMEBODY = [
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/tool.jinja",
    "manifest.json",
    "processor_config.json",
    "preprocessor_config.json",
    "adapter_config.json",
    "vocab.txt",
    "Merges.TXT",
    "tokenizer.model",
    "modeling_llama.py",
    "onnx/model.onnx",
    "onnx/model_q4.onnx_data_1",
    "onnx/model_q4.ort",
    "custom_ops.so",
    "pytorch_model.bin",
    "sub/folder/config.json",
]


@pytest.mark.parametrize("name", READ_BY_SOMEBODY)
def test_an_unlisted_file_that_a_runtime_may_read(small: Path, name: str) -> None:
    (small / name).parent.mkdir(parents=True, exist_ok=True)
    (small / name).write_text("{}")
    assert f"{name} is not listed in its manifest" in refusal(small)


@pytest.mark.parametrize(
    "name", ["notes.txt", "LICENSE", "photo.PNG", ".gitattributes", ".cache/x.json"]
)
def test_what_nobody_reads_does_not_keep_a_bundle_from_opening(small: Path, name: str) -> None:
    (small / name).parent.mkdir(exist_ok=True)
    (small / name).write_text("hello")
    Bundle.open(small)
    assert name in set(unlisted(small, ()))


def test_verify_names_every_file_that_is_not_listed(tiny_bundle: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    assert edgepeft("verify", folder).returncode == 0
    (folder / "notes.txt").write_text("hello")
    (folder / "adapters").mkdir()
    (folder / "adapters" / "x.json").write_text("{}")
    (folder / ".hidden\x1b[2J").write_text("x")
    done = edgepeft("verify", folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    for name in ("notes.txt", "adapters/x.json", r"'.hidden\x1b[2J'"):
        assert name in done.stderr
    assert "are not listed in its manifest" in done.stderr
    assert "\x1b" not in done.stderr


def test_more_files_than_anybody_lists(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MOST_ENTRIES", 500)
    (small / ".many").mkdir()
    for number in range(501):
        (small / ".many" / str(number)).touch()
    assert "more than 500 files" in refusal(small)


# What is no regular file of its own.


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["README.md", "edgepeft.json", "genai_config.json", MODEL, DATA])
def test_a_pipe_is_not_waited_for(small: Path, name: str) -> None:
    (small / "README.md").write_text("about it")
    write_manifest(small)
    (small / name).unlink()
    os.mkfifo(small / name)
    assert f"{small / name}: not a regular file" in refusal(small)


def test_a_device_and_a_link_to_one_are_not_read(small: Path) -> None:
    (small / "edgepeft.json").unlink()
    (small / "edgepeft.json").symlink_to("/dev/zero")
    assert "a symbolic link" in refusal(small)
    if os.geteuid() == 0:
        (small / "edgepeft.json").unlink()
        try:
            os.mknod(small / "edgepeft.json", 0o020666, os.makedev(1, 5))
        except OSError:
            pytest.skip("device nodes can't be made here")
        assert "not a regular file" in refusal(small)


@pytest.mark.parametrize("name", ["README.md", "edgepeft.json"])
def test_a_link_in_place_of_any_listed_file(small: Path, tmp_path: Path, name: str) -> None:
    (small / "README.md").write_text("about it")
    write_manifest(small)
    (small / name).rename(tmp_path / "elsewhere")
    (small / name).symlink_to(tmp_path / "elsewhere")
    assert f"{small / name}: a symbolic link" in refusal(small)


def test_an_unlisted_link_or_pipe_is_refused_whatever_its_name(small: Path) -> None:
    (small / "notes.txt").symlink_to("/etc/hostname")
    assert "notes.txt is not listed" in refusal(small)
    (small / "notes.txt").unlink()
    os.mkfifo(small / "notes.txt")
    assert "notes.txt is not listed" in refusal(small)
    (small / "notes.txt").unlink()
    place = socket.socket(socket.AF_UNIX)
    place.bind(os.path.relpath(small / "notes.txt"))
    assert "notes.txt is not listed" in refusal(small)
    place.close()


def test_a_hard_link_of_any_listed_file(small: Path, tmp_path: Path) -> None:
    (small / "README.md").write_text("about it")
    write_manifest(small)
    os.link(small / "README.md", tmp_path / "elsewhere")
    assert f"{small / 'README.md'}: hard-linked" in refusal(small)


# Hashes.


def test_a_file_is_hashed_once_as_long_as_it_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    real: Callable[..., Any] = hashlib.file_digest

    def counted(file: object, name: str) -> object:
        reads.append(name)
        return real(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    monkeypatch.setattr(files, "SETTLED_NS", 0)
    path = tmp_path / "file"
    path.write_bytes(b"one")
    first = sha256_of(path)
    assert sha256_of(path) == first
    assert len(reads) == 1
    before = path.stat()
    # Another content of the same size under the same modification time: the change time tells.
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sha256_of(path) != first
    assert len(reads) == 2


def test_a_file_changed_moments_ago_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"two", b"six") * 20:
        path.write_bytes(content)
        os.utime(path, ns=(0, 0))
        assert sha256_of(path) == hashlib.sha256(content).hexdigest()


def test_a_damaged_file_is_told_from_wrong_input(small: Path) -> None:
    (small / DATA).write_bytes(bytes(64))
    with pytest.raises(DamagedError, match="changed since it was built"):
        Bundle.open(small)


# The template that was measured.


def chat(folder: Path, template: str) -> str:
    """Give a bundle a chat template in both places; returns its SHA-256."""
    (folder / "chat_template.jinja").write_text(template, newline="")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    write_manifest(folder)
    digest = hashlib.sha256(template.encode()).hexdigest()
    edit_json(folder / "edgepeft.json", "result.prompt.template_sha256", digest)
    return digest


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json"])
def test_another_template_than_the_one_measured(small: Path, name: str) -> None:
    digest = chat(small, "{{ messages[0]['content'] }}")
    Bundle.open(small)
    other = "{{ x }}" if name.endswith("jinja") else json.dumps({"chat_template": "{{ x }}"})
    (small / name).write_text(other)
    # Its own hash is right: who changed it sealed it again.
    write_manifest(small)
    edit_json(small / "edgepeft.json", "result.prompt.template_sha256", digest)
    assert f"{small / name}: another chat template" in refusal(small)


def test_line_ends_of_a_template_do_not_matter(small: Path) -> None:
    chat(small, "{{ messages }}\r\nand so on\r\n")
    Bundle.open(small)


# JSON.


def test_json_is_read_strictly(tmp_path: Path) -> None:
    where = tmp_path / "x.json"
    where.write_text('{"a": 1, "b": {"c": 2, "c": 3}}')
    with pytest.raises(InputError, match=r"the key 'c' is given twice"):
        read_json(where)
    where.write_text('{"a": [1.5, 1e3, -2]}')
    assert read_json(where) == {"a": [1.5, 1000.0, -2]}


@pytest.mark.parametrize("path", ["a" * 5000, "x\0y", "edgepeft.json/x"])
def test_a_path_that_the_system_refuses_is_one_line(path: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        Bundle.open(tmp_path / path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_may_not_be_read(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an ordinary user meets it; these tests may run as one who may read everything."""

    def refuse(path: object, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    for function in ("lstat", "open", "scandir"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, refuse)
            with pytest.raises(InputError, match="cannot be read"):
                Bundle.open(small)
