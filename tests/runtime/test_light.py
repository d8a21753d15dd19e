"""What importing the runtime costs, and what it must never import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "onnxruntime", "onnxruntime_genai", "tokenizers", "numpy")


def imported_by(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after ``code``."""
    root = Path(__file__).parents[2]
    listing = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", listing], cwd=root, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code", ["import edgepeft.runtime", "import edgepeft.cli.run, edgepeft.cli.chat"]
)
def test_importing_is_light(code: str) -> None:
    assert not imported_by(code) & set(HEAVY)


def test_opening_a_bundle_needs_no_runtime(small: Path) -> None:
    code = f"from edgepeft.runtime import Bundle; Bundle.open({str(small)!r})"
    assert not imported_by(code) & set(HEAVY)


def test_answering_imports_neither_torch_nor_transformers(tiny_bundle: Path) -> None:
    modules = imported_by(
        "from edgepeft.runtime import Bundle, GraphSession, Runtime\n"
        f"bundle = Bundle.open({str(tiny_bundle)!r})\n"
        "ids = Runtime(bundle).complete('hi', max_new_tokens=2).prompt_ids\n"
        "GraphSession(bundle).logits(ids)"
    )
    assert {"onnxruntime", "onnxruntime_genai", "tokenizers"} <= modules
    assert not modules & {"torch", "transformers", "onnx", "onnx_ir", "peft"}


def test_names_that_are_not_there() -> None:
    import edgepeft.runtime

    with pytest.raises(AttributeError, match="Nonsense"):
        _ = edgepeft.runtime.Nonsense
