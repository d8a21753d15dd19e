"""An adapter's file is held against its manifest wherever it is loaded, byte for byte."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepeft.bundle.files import DamagedError
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.runtime import BatchRuntime, Bundle, Runtime
from edgepeft.runtime.adapters import FACTORS, open_adapter
from tests.command import edgepeft

PROMPT = "What is the colour of grass?"


@pytest.fixture
def mine(filled: Path, tmp_path: Path) -> Path:
    """A bundle with adapters that a test may change."""
    return Path(shutil.copytree(filled, tmp_path / "bundle"))


def flip(folder: Path, name: str = "one") -> None:
    """Change one byte of an adapter's weights; its size and modification time stay."""
    path = folder / "adapters" / name / FACTORS
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def load(folder: Path) -> None:
    Runtime(folder, threads=1).load_adapter("one")


def swap(folder: Path) -> None:
    Runtime(folder, threads=1).swap_adapter("one")


def ask(folder: Path) -> None:
    Runtime(folder, threads=1).complete(PROMPT, adapter="one", max_new_tokens=2)


def ask_a_batch(folder: Path) -> None:
    runtime = BatchRuntime(folder, rows=2, threads=1)
    try:
        runtime.complete(PROMPT, adapter="one", max_new_tokens=2)
    finally:
        runtime.close()


@pytest.mark.parametrize("way", [load, swap, ask, ask_a_batch])
def test_a_changed_adapter_is_refused(mine: Path, way: Callable[[Path], None]) -> None:
    way(mine)
    flip(mine)
    with pytest.raises(DamagedError, match=rf"{FACTORS}: changed since it was built"):
        way(mine)


@pytest.mark.parametrize("check", ["--check", "--no-check"])
def test_the_command_refuses_a_changed_adapter(mine: Path, check: str) -> None:
    flip(mine)
    done = edgepeft("run", mine, PROMPT, "--adapter", "one", "--max-new-tokens", "1", check)
    assert (done.returncode, done.stderr.count("\n")) == (2, done.stderr.count("warning") + 1)
    assert "changed since it was built" in done.stderr
    assert (
        edgepeft("run", mine, PROMPT, "--adapter", "two", "--max-new-tokens", "1").returncode == 0
    )


@pytest.mark.parametrize("rows", [0, 2])
def test_one_that_changes_after_it_was_loaded_answers_no_more(mine: Path, rows: int) -> None:
    runtime: Runtime | BatchRuntime
    runtime = BatchRuntime(mine, rows=rows, threads=1) if rows else Runtime(mine, threads=1)
    wanted = runtime.complete(PROMPT, adapter="one", max_new_tokens=8).text
    flip(mine)
    with pytest.raises(EdgepeftError, match=r"changed since it was built|before it changed"):
        runtime.complete(PROMPT, adapter="one", max_new_tokens=8)
    flip(mine)
    assert runtime.complete(PROMPT, adapter="one", max_new_tokens=8).text == wanted
    if isinstance(runtime, BatchRuntime):
        runtime.close()


def test_what_an_adapters_manifest_does_not_list(mine: Path) -> None:
    folder = mine / "adapters" / "one"
    (folder / "more.json").write_text("{}")
    with pytest.raises(InputError, match=r"more\.json is not listed in its manifest"):
        load(mine)
    (folder / "more.json").rename(folder / "notes.txt")
    load(mine)
    (mine / "adapters" / "stray.bin").write_text("x")
    done = edgepeft("verify", mine)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "adapters/stray.bin, adapters/one/notes.txt" in done.stderr.replace(
        "adapters/one/notes.txt, adapters/stray.bin", "adapters/stray.bin, adapters/one/notes.txt"
    )


@pytest.mark.parametrize("name", [FACTORS, "edgepeft.json"])
def test_links_and_pipes_in_an_adapters_folder(mine: Path, tmp_path: Path, name: str) -> None:
    path = mine / "adapters" / "one" / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="a symbolic link"):
        load(mine)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"not a regular file|no such adapter"):
        load(mine)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ((), []),
        (("kind",), "bundle"),
        (("result",), "x"),
        (("result", "binding"), None),
        (("outputs",), []),
        (("outputs", FACTORS), "x"),
        (("outputs", FACTORS, "bytes"), "many"),
        (("outputs", FACTORS, "bytes"), None),
        (("outputs", FACTORS, "sha256"), 4),
        (("outputs", "../x"), {"bytes": 1, "sha256": "0" * 64}),
        (("fidelity",), []),
        (("fidelity", "gates"), 4),
        (("fidelity", "gates"), [1]),
    ],
)
def test_an_adapters_manifest_of_other_types(mine: Path, key: tuple[str, ...], value: Any) -> None:
    where = mine / "adapters" / "one" / "edgepeft.json"
    tree: Any = {"fidelity": {"gates": "passed"}, **json.loads(where.read_text())}
    if not key:
        where.write_text(json.dumps(value))
    else:
        at = tree
        for part in key[:-1]:
            at = at[part]
        at[key[-1]] = value
        where.write_text(json.dumps(tree))
    with pytest.raises(InputError) as caught:
        open_adapter(Bundle.open(mine), "one")
    assert str(where) in (message := str(caught.value))
    assert "\n" not in message


def test_a_list_of_slots_of_other_types(mine: Path) -> None:
    where = mine / "adapters.json"
    slots = json.loads(where.read_text())
    manifest = json.loads((mine / "edgepeft.json").read_text())
    changes: tuple[dict[str, object], ...] = (
        {"rank": "16"},
        {"rank": 10**12},
        {"slots": {}},
        {"slots": [{**slots["slots"][0], "width": 10**12}]},
        {"slots": [{**slots["slots"][0], "runs": [{"module": "q"}]}]},
        {"base": []},
        {"exact": "yes"},
        {"more": 1},
    )
    for change in changes:
        where.write_text(json.dumps({**slots, **change}))
        facts = {"bytes": where.stat().st_size, "sha256": _sha256(where)}
        manifest["outputs"]["adapters.json"] = facts
        (mine / "edgepeft.json").write_text(json.dumps(manifest))
        done = edgepeft("serve", mine, "--batch", 2, "--port", 0)
        assert (done.returncode, done.stderr.count("Traceback")) == (2, 0), done.stderr
        assert f"{where}: not a list of adapter slots" in done.stderr


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
