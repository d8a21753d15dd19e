"""What a folder that is given as an adapter holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepeft.adapters.folder import CONFIG, find_adapter
from edgepeft.errors import InputError


def adapter(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text("{}")
    return folder


def test_the_folder_itself_though_checkpoints_lie_in_it(tmp_path: Path) -> None:
    adapter(tmp_path)
    adapter(tmp_path / "checkpoint-50")
    assert find_adapter(tmp_path) == tmp_path


def test_the_newest_checkpoint_by_its_step(tmp_path: Path) -> None:
    for step in (9, 100, 30):
        adapter(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-200").mkdir()
    adapter(tmp_path / "checkpoint-last")
    assert find_adapter(tmp_path).name == "checkpoint-100"


def test_what_is_no_adapters_folder_says_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such adapter folder"):
        find_adapter(tmp_path / "gone")
    with pytest.raises(InputError, match=rf"not a PEFT adapter folder \(no {CONFIG}\)$"):
        find_adapter(tmp_path)
    adapter(tmp_path / "sft")
    with pytest.raises(InputError, match=r"; there is one in .*sft$"):
        find_adapter(tmp_path)
    adapter(tmp_path / "dpo")
    with pytest.raises(InputError, match="it holds several, name one: dpo, sft"):
        find_adapter(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="it is a model's: name it as model"):
        find_adapter(tmp_path)
