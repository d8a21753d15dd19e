"""Every test of the wizard works in a folder of its own, which is also where its runs go."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ModelMaker
from tests.hot_swap.fixtures import built, filled
from tests.stages import Find, carried_once
from tests.tui.record import build

__all__ = ["built", "filled"]

pytest.importorskip("textual")


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Find:
    """``encoders(case, stage)``: a folder of the chain of tiny encoders; not to be changed."""
    return carried_once("tests.encoders.chain", tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_model: ModelMaker) -> Path:
    """A folder with a real finished run of a tiny model, compared two ways, in runs/small. Not to be changed."""
    folder = tmp_path_factory.mktemp("tiny-run")
    build(folder, tiny_model("llama"))
    return folder


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder, the state and the keymap are the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEPEFT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLORTERM", "truecolor")
