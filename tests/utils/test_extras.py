"""What the doctor says of extras, from metadata as installers write it."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from edgepeft.utils import extras as module
from edgepeft.utils.extras import Unsuitable, extras, floor

INSTALLED = {
    "there": "2.13.0+cpu",
    "early": "5.3.0.dev0",
    "old": "1.9",
    "new": "6.1",
    "strange": "unknown",
}
REQUIRES = (
    "base>=1",
    "there>=2.10; extra == 'train'",
    'early>=5.3; extra == "train"',
    "absent[cuda,cudnn]>=1.31; extra == 'cuda'",
    "old>=1.10; extra == 'cuda'",
    "new>=5.3,<6; extra == 'tui'",
    "strange>=3; extra == 'tui'",
    "of-windows; sys_platform == 'win32' and extra == 'tui'",
)


def write_metadata(folder: Path, name: str, version: str, *lines: str) -> None:
    place = folder / f"{name}-{version}.dist-info"
    place.mkdir()
    head = ("Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}")
    (place / "METADATA").write_text("\n".join((*head, *lines)) + "\n")


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distributions that importlib.metadata finds before those that are really installed."""
    for name, version in INSTALLED.items():
        write_metadata(tmp_path, name, version)
    lines = [f"Provides-Extra: {name}" for name in ("train", "cuda", "tui", "unheard-of")]
    lines += [f"Requires-Dist: {line}" for line in REQUIRES]
    write_metadata(tmp_path, "edgepeft", "9", *lines)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("_installed")
def test_every_extra_says_what_it_lacks() -> None:
    found = {extra.name: extra for extra in extras()}
    assert list(found) == ["train", "cuda", "tui", "unheard-of"]
    assert found["train"].complete
    assert found["train"].state == "complete"
    assert found["train"].install == "pip install 'edgepeft[train]'"
    assert found["cuda"].missing == ("absent",)
    assert found["cuda"].unsuitable == (Unsuitable("old", "1.9", ">=1.10"),)
    assert found["cuda"].state == "missing absent; old 1.9 is not >=1.10"
    assert found["tui"].missing == ()
    assert [one.name for one in found["tui"].unsuitable] == ["new"]
    assert found["unheard-of"].complete
    assert found["cuda"].as_json() == {
        "for": module.PURPOSES["cuda"],
        "complete": False,
        "adds": ["absent"],
        "unsuitable": [{"name": "old", "installed": "1.9", "needs": ">=1.10"}],
        "install": "pip install 'edgepeft[cuda]'",
    }


@pytest.mark.usefixtures("_installed")
def test_a_floor_is_the_metadatas() -> None:
    assert str(getattr(floor("there"), "specifier", None)) == ">=2.10"
    assert floor("base") is not None
    assert floor("absent-too") is None


def test_every_extra_of_this_package_says_what_it_is_for() -> None:
    provided = importlib.metadata.metadata("edgepeft").get_all("Provides-Extra") or []
    assert set(module.PURPOSES) == set(provided)


def test_without_metadata_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGE", "a-package-that-nobody-has")
    assert extras() == []
    assert floor("torch") is None
