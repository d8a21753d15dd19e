"""The graph builder reads a configuration by the keys that are set for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

READ = {
    "base.py": (
        "rope_theta",
        "layer_types",
        "sliding_attention",
        "short_mscale",
        "rope_parameters",
    ),
    "gemma.py": ("rope_local_base_freq",),
    "phi.py": ('"type"', "short_mscale", "long_mscale"),
}


def builders() -> Path:
    """The builder's folder; importing it would change ``sys.path``."""
    spec = importlib.util.find_spec("onnxruntime_genai")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "models" / "builders"


@pytest.mark.parametrize(
    ("file", "key"), [(file, key) for file, keys in READ.items() for key in keys]
)
def test_the_builder_still_asks_for_the_key(file: str, key: str) -> None:
    assert key in (builders() / file).read_text()
