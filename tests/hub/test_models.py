"""Models by id: what is downloaded, at which commit, and what is said where one can't be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hub.conftest import User
from tests.hub.served import TOKEN, Hub, content


@pytest.fixture
def tiny(hub: Hub, model: Path) -> str:
    """A tiny model under ``me/tiny`` with what must not be downloaded; the commit of its main branch."""
    strange = {
        "pytorch_model.bin": b"\x80\x04.",
        "modeling_tiny.py": b"raise SystemExit",
        "onnx/model.onnx": b"graph",
        "onnx/model.safetensors": b"other",
        "training_args.bin": b"\x80\x04.",
    }
    return hub.add("me/tiny", {**content(model), **strange})


def test_a_model_is_found_by_its_id(user: User, hub: Hub, tiny: str) -> None:
    facts = user.json("inspect", "me/tiny")
    assert facts["supported"] is True
    assert f"models--me--tiny/snapshots/{tiny}" in facts["path"]


def test_neither_code_nor_pickles_nor_other_forms_are_downloaded(
    user: User, hub: Hub, tiny: str
) -> None:
    user.json("inspect", "me/tiny")
    names = {name.rpartition("/resolve/")[2].partition("/")[2] for name in hub.asked}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    unwanted = {name for name in names if name.endswith((".bin", ".py")) or name.startswith("onnx")}
    assert unwanted == set()


def test_a_revision_is_a_branch_or_a_commit(user: User, hub: Hub, tiny: str, model: Path) -> None:
    other = hub.repo("me/tiny").commit({**content(model), "README.md": b"v2"}, "v2")
    assert f"/{other}" in user.json("inspect", "me/tiny@v2")["path"]
    assert f"/{tiny}" in user.json("inspect", f"me/tiny@{tiny}")["path"]


def test_a_local_folder_wins(user: User, hub: Hub, tiny: str, model: Path) -> None:
    (user.folder / "me").mkdir()
    (user.folder / "me" / "tiny").symlink_to(model)
    assert user.json("inspect", "me/tiny")["path"] == str(model)
    assert hub.asked == []


def test_the_cache_serves_where_the_hub_does_not(user: User, hub: Hub, tiny: str) -> None:
    user.json("inspect", "me/tiny")
    hub.asked.clear()
    assert f"/{tiny}" in user.json("inspect", "me/tiny", HF_HUB_OFFLINE="1")["path"]
    assert hub.asked == []
    gone = "http://127.0.0.1:9"
    assert f"/{tiny}" in user.json("inspect", "me/tiny", HF_ENDPOINT=gone)["path"]


def test_a_private_model_takes_a_token(user: User, hub: Hub, tiny: str) -> None:
    hub.repo("me/tiny").private = True
    assert f"/{tiny}" in user.json("inspect", "me/tiny", token=TOKEN)["path"]
    status, line = user.refused("inspect", "me/tiny", HF_HUB_CACHE=str(user.home / "other"))
    assert status == 2
    assert "has no such model that is public" in line
    assert "hf auth login" in line


def test_each_refusal_has_its_own_mend(user: User, hub: Hub, tiny: str) -> None:
    hub.add("me/gated", {"config.json": b"{}", "model.safetensors": b""})
    hub.repo("me/gated").gated = True
    said = {
        "misspelt": user.refused("inspect", "me/tyni"),
        "unseen": user.refused("inspect", "me/tyni", token=TOKEN),
        "gated": user.refused("inspect", "me/gated"),
        "gated for you": user.refused("inspect", "me/gated", token=TOKEN),
        "wrong token": user.refused("inspect", "me/tiny", token="hf_wrong"),
        "revision": user.refused("inspect", "me/tiny@mian"),
        "offline": user.refused("inspect", "me/other", HF_HUB_OFFLINE="1"),
        "unreachable": user.refused("inspect", "me/other", HF_ENDPOINT="http://127.0.0.1:9"),
    }
    parts = {
        "misspelt": (2, ["check the spelling", "hf auth login"]),
        "unseen": (2, ["your token may not see it", "check the spelling"]),
        "gated": (2, ["is gated", f"{hub.address}/me/gated", "hf auth login"]),
        "gated for you": (2, ["is gated", "ask for it", f"{hub.address}/me/gated"]),
        "wrong token": (2, ["does not accept your token", "hf auth login"]),
        "revision": (2, ["no revision mian", "did you mean main?", "it has main"]),
        "offline": (3, ["HF_HUB_OFFLINE is set", "unset it", str(user.cache)]),
        "unreachable": (3, ["can't be reached", "HF_ENDPOINT"]),
    }
    for case, (status, words) in parts.items():
        assert said[case][0] == status, said[case]
        for word in words:
            assert word in said[case][1], said[case]
    assert len({line for _, line in said.values()}) == len(said)


def test_a_hub_out_of_order_is_told(user: User, hub: Hub) -> None:
    hub.status = 503
    status, line = user.refused("inspect", "me/tiny")
    assert status == 3
    assert "answered 503" in line


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("adapter_config.json", "is a PEFT adapter"),
        ("pytorch_model.bin", "pickles"),
        ("tiny.Q4_0.gguf", "GGUF"),
    ],
)
def test_other_forms_of_weights_are_named(user: User, hub: Hub, file: str, said: str) -> None:
    hub.add("me/tiny", {"config.json": b"{}", file: b"weights"})
    status, line = user.refused("inspect", "me/tiny")
    assert status == 2
    assert said in line
