"""Commands that need libraries of an extra, where only the runtime's are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LEFT_OUT = ("torch", "transformers", "peft", "trl", "onnx_ir", "jsonschema", "llguidance")
RECIPE = Path(__file__).parents[2] / "samples" / "recipes" / "home-control.yaml"


@pytest.mark.parametrize("command", ["build", "plan", "train"])
def test_what_to_install_is_said(tmp_path: Path, command: str) -> None:
    out = tmp_path / "run"
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({LEFT_OUT}))\n"
        "from edgepeft.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command, RECIPE, "--out", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert "torch is not installed: pip install 'edgepeft[" in done.stderr
    assert not out.exists()
