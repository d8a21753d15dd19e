"""Digests are those of the content, and remembering them never hides a change."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from edgepeft.runs import digests
from edgepeft.runs.digests import DigestCache, cache_folder, hash_file


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were really read."""
    read: list[str] = []

    def counting(path: Path) -> str:
        read.append(path.name)
        return hash_file(path)

    monkeypatch.setattr(digests, "hash_file", counting)
    return read


@pytest.mark.parametrize("content", [b"", b"abc", bytes(3 << 20)], ids=["none", "few", "many"])
def test_it_is_sha256_of_the_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert hash_file(path) == hashlib.sha256(content).hexdigest()
    assert DigestCache(tmp_path / "store").file(path) == hash_file(path)


def test_an_unchanged_file_is_read_once_even_by_another_process(
    tmp_path: Path, hashed: list[str]
) -> None:
    path, store = tmp_path / "file", tmp_path / "cache" / "digests.json"
    path.write_text("one")
    first = DigestCache(store)
    digest = first.file(path)
    assert first.file(path) == digest
    first.save()
    assert DigestCache(store).file(path) == digest
    assert hashed == ["file"]


def test_changes_are_noticed(tmp_path: Path, hashed: list[str]) -> None:
    path, store = tmp_path / "file", tmp_path / "digests.json"
    path.write_text("one")
    cache = DigestCache(store)
    seen = {cache.file(path)}
    # The same size, changed in place; and the same size and times, but another file.
    path.write_text("two")
    os.utime(path, ns=(1, 1))
    seen.add(cache.file(path))
    other = tmp_path / "other"
    other.write_text("six")
    os.utime(other, ns=(1, 1))
    other.replace(path)
    seen.add(cache.file(path))
    assert len(seen) == len(hashed) == 3


def test_a_folder_is_its_files_names_and_contents(tmp_path: Path) -> None:
    folder, cache = tmp_path / "model", DigestCache(tmp_path / "store")
    folder.mkdir()
    (folder / "a").write_text("1")
    (folder / "b").write_text("2")
    before = cache.folder(folder)
    (folder / ".hidden").write_text("not part of it")
    (folder / "inner").mkdir()
    (folder / "inner" / "c").write_text("nor this")
    assert cache.folder(folder) == before
    assert cache.folder(folder, ["b", "a"]) == before
    assert cache.folder(folder, ["a"]) != before
    (folder / "b").rename(folder / "c")
    renamed = cache.folder(folder)
    (folder / "c").write_text("3")
    assert len({before, renamed, cache.folder(folder)}) == 3


def test_contents_that_change_places_change_the_folder(tmp_path: Path) -> None:
    cache, seen = DigestCache(tmp_path / "store"), set()
    for number, (one, other) in enumerate((("1", "2"), ("2", "1"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "a").write_text(one)
        (folder / "b").write_text(other)
        seen.add(cache.folder(folder))
    assert len(seen) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "\x00"])
def test_a_damaged_memory_is_forgotten(tmp_path: Path, content: str) -> None:
    store, path = tmp_path / "digests.json", tmp_path / "file"
    store.write_text(content)
    path.write_text("one")
    cache = DigestCache(store)
    assert cache.file(path) == hash_file(path)
    cache.save()
    assert hash_file(path) in json.loads(store.read_text()).values()


def test_a_memory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")
    cache = DigestCache(tmp_path / "file" / "below" / "digests.json")
    cache.file(tmp_path / "file")
    cache.save()


def test_nothing_new_is_not_written(tmp_path: Path) -> None:
    cache = DigestCache(tmp_path / "cache" / "digests.json")
    cache.save()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"EDGEPEFT_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/edgepeft"),
        ({"HOME": "/home/me"}, "/home/me/.cache/edgepeft"),
    ],
)
def test_the_cache_lies_where_the_user_says(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("EDGEPEFT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)
