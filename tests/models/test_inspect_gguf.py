"""Models that come as one GGUF file, known from its metadata."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepeft.errors import InputError
from edgepeft.models import inspect_model

gguf = pytest.importorskip("gguf")


def write_gguf(
    path: Path, *, tied: bool = True, without: str = "", rotary: str = "none", **extra: int
) -> Path:
    """A GGUF file with the metadata and the tensors that are looked at."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_license("apache-2.0")
    if rotary in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rotary))
    if rotary == "frequencies":
        writer.add_tensor("rope_freqs.weight", np.ones(8, np.float32))
    numbers = {
        "block_count": 2,
        "context_length": 512,
        "embedding_length": 64,
        "feed_forward_length": 160,
        **extra,
    }
    for key, value in numbers.items():
        if key != without:
            writer.add_uint32(f"llama.{key}", value)
    if without != "embedding":
        writer.add_tensor("token_embd.weight", np.zeros((512, 64), np.float32))
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((64, 64), np.float16))
    if not tied:
        writer.add_tensor("output.weight", np.zeros((512, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("tied", [True, False])
def test_gguf_is_read_from_its_metadata(tmp_path: Path, tied: bool) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tied=tied)
    info = inspect_model(path)
    assert (info.kind, info.architecture) == ("gguf", "LlamaForCausalLM")
    assert info.parameters == 512 * 64 * (1 if tied else 2) + 64 * 64
    assert info.dtype == "F16+F32"
    assert (info.layers, info.hidden_size, info.intermediate_size) == (2, 64, 160)
    assert (info.vocab_size, info.context_length) == (512, 512)
    assert info.tied_embeddings == tied
    assert info.licence == "apache-2.0"
    assert info.file_bytes == path.stat().st_size


def test_experts_of_a_gguf_are_told_to_the_exporter(tmp_path: Path) -> None:
    info = inspect_model(write_gguf(tmp_path / "moe.gguf", expert_count=8))
    assert info.config["num_local_experts"] == 8


@pytest.mark.parametrize("rotary", ["linear", "yarn", "frequencies"])
def test_scaled_rotary_positions_are_refused(tmp_path: Path, rotary: str) -> None:
    """transformers reads such a file and leaves the scaling out without a word."""
    with pytest.raises(InputError, match="scales its rotary positions"):
        inspect_model(write_gguf(tmp_path / "long.gguf", rotary=rotary))


@pytest.mark.parametrize(
    ("without", "match"),
    [
        ("block_count", "GGUF metadata lacks llama.block_count"),
        ("embedding", "holds no token embedding; not a language model"),
    ],
)
def test_incomplete_gguf(tmp_path: Path, without: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        inspect_model(write_gguf(tmp_path / "tiny.gguf", without=without))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no gguf at all", b"GGUF" + b"\xff" * 64])
def test_damaged_gguf(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"tiny\.gguf: not a readable GGUF file"):
        inspect_model(path)


def test_truncated_gguf(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    path.write_bytes(path.read_bytes()[:-4096])
    with pytest.raises(InputError, match=r"tiny\.gguf: not a readable GGUF file"):
        inspect_model(path)
