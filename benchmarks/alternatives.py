"""What the benchmarks hold edgepeft against."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_BUILD = """
import sys
from onnxruntime_genai.models import builder
arguments = (None, sys.argv[1], sys.argv[2], "int4", "cpu", sys.argv[2])
builder.create_model(*arguments, **builder.parse_extra_options(*arguments, []))
"""


def build_default_int4(checkpoint: Path | str, folder: Path | str) -> None:
    """onnxruntime-genai's graph builder with its defaults: symmetric blocks of 32 to nearest, tied int4 head."""
    subprocess.run(
        [sys.executable, "-c", _BUILD, str(checkpoint), str(folder)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
