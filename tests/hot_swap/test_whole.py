"""An adapter of a bundle is there whole or not at all, and what a killed command left is swept by the next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgepeft.errors import EdgepeftError
from edgepeft.hot_swap.store import add_adapter, remove_adapter
from edgepeft.runtime import Bundle
from edgepeft.runtime.adapters import adapter_names, open_adapter
from tests.command import edgepeft
from tests.faulty import environment, fault
from tests.stages import Find

COUNT = 60
"""More operations on files than any of these commands has."""


@pytest.mark.parametrize("what", ["ENOSPC", "EROFS", "EIO"])
def test_a_refusal_at_any_operation(built: Find, own: Path, tmp_path: Path, what: str) -> None:
    """Adding, replacing and removing: afterwards there is the old adapter, the new one or none, and all whole."""
    bundle, adapters, mark = Bundle.open(own), own / "adapters", tmp_path / "mark"
    one, two = (built("llama", "adapters") / name for name in ("one", "two"))
    works: dict[str, Callable[[], object]] = {
        "add": lambda: add_adapter(bundle, "a", one),
        "replace": lambda: add_adapter(bundle, "a", two, replace=True),
        "remove": lambda: remove_adapter(bundle, "a"),
    }
    for name, work in works.items():
        for number in range(1, COUNT):
            with fault("any", number, what, own, mark):
                try:
                    work()
                    said = ""
                except EdgepeftError as error:
                    said = str(error)
            found = adapter_names(bundle)
            assert [path.name for path in adapters.iterdir()] == found, (name, number)
            for there in found:
                open_adapter(bundle, there, check="hashes")
            if not mark.exists():
                break
            assert str(adapters / "a") in said, (name, number, said)
            # What was done before the refusal came makes the next attempt another one.
            if name == "add" and found:
                remove_adapter(bundle, "a")
            if name == "remove" and not found:
                add_adapter(bundle, "a", two)
        else:
            pytest.fail(f"{name}: no end of operations")
        assert number > 2


def test_a_command_that_is_killed_is_swept_by_the_next(
    built: Find, own: Path, tmp_path: Path
) -> None:
    one = built("llama", "adapters") / "one"
    adapters, mark = own / "adapters", tmp_path / "mark"
    for kind in ("create", "fsync", "rename"):
        done = edgepeft(
            "adapters", "add", own, one, env=environment(kind, 1, "kill", adapters, mark)
        )
        assert (done.returncode, mark.exists()) == (-9, True)
        assert adapter_names(Bundle.open(own)) == []
        assert len(list(adapters.iterdir())) == 1
    assert edgepeft("adapters", "add", own, one).returncode == 0
    assert [path.name for path in adapters.iterdir()] == ["one"]
    done = edgepeft(
        "adapters", "remove", own, "one", env=environment("fsync", 1, "kill", own, mark)
    )
    assert done.returncode == -9
    assert edgepeft("adapters", "add", own, one, "--name", "again").returncode == 0
    assert [path.name for path in adapters.iterdir()] == ["again"]


def test_replacing_that_is_killed_leaves_one_of_the_two(
    built: Find, own: Path, tmp_path: Path
) -> None:
    """Even between the two renames: the next command that writes there gives the old one its name back."""
    one, two = (built("llama", "adapters") / name for name in ("one", "two"))
    adapters, mark = own / "adapters", tmp_path / "mark"
    add_adapter(Bundle.open(own), "a", one)
    for number in (1, 2, 3):
        done = edgepeft(
            *("adapters", "add", own, two, "--name", "a", "--replace"),
            env=environment("rename", number, "kill", adapters, mark),
        )
        assert (done.returncode, mark.exists()) == (-9, True)
        assert edgepeft("adapters", "add", own, one, "--name", f"b{number}").returncode == 0
        rank = open_adapter(Bundle.open(own), "a", check="hashes").facts["rank"]
        assert rank == 4
    assert {path.name for path in adapters.iterdir()} == {"a", "b1", "b2", "b3"}
