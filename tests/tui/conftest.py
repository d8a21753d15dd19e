"""Every test of the wizard works in a folder of its own, which is also where its runs go."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("textual")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder, the state and the keymap are the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEPEFT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("NO_COLOR", raising=False)
