"""The user's folders follow the XDG specification, and there are some for whoever has no home."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepeft.utils.user_folders import cache_folder, config_folder, state_folder

FOLDERS = [
    (state_folder, "EDGEPEFT_STATE", "XDG_STATE_HOME", ".local/state"),
    (cache_folder, "EDGEPEFT_CACHE", "XDG_CACHE_HOME", ".cache"),
    (config_folder, None, "XDG_CONFIG_HOME", ".config"),
]


@pytest.mark.parametrize(("folder", "own", "shared", "below"), FOLDERS)
def test_own_variable_then_xdg_then_home(
    folder: Callable[[], Path],
    own: str | None,
    shared: str,
    below: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("EDGEPEFT_STATE", "EDGEPEFT_CACHE", shared):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder() == tmp_path / below / "edgepeft"
    # A relative path is no place of the user's, says the specification.
    monkeypatch.setenv(shared, "relative/place")
    assert folder() == tmp_path / below / "edgepeft"
    monkeypatch.setenv(shared, "/shared")
    assert folder() == Path("/shared/edgepeft")
    if own is not None:
        monkeypatch.setenv(own, "/own")
        assert folder() == Path("/own")


def test_a_user_that_no_table_lists_has_folders_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(number: int) -> None:
        raise KeyError(number)

    for name in ("HOME", "EDGEPEFT_STATE", "EDGEPEFT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for _, _, shared, _ in FOLDERS:
        monkeypatch.delenv(shared, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    places = {folder() for folder, *_ in FOLDERS}
    assert len(places) == len(FOLDERS)
    above = Path(os.path.commonpath(places)).stat()
    assert (above.st_uid, above.st_mode & 0o077) == (os.getuid(), 0)
