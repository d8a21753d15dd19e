"""What the tool of NVIDIA's driver says; no library's word is taken for a GPU."""

from __future__ import annotations

import shutil
import subprocess

_SECONDS = 10


def query(what: str, *fields: str) -> list[list[str]]:
    """Rows of ``fields`` of ``gpu`` or ``compute-apps``, sizes as "512 MiB"; none without a GPU or a driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, f"--query-{what}={','.join(fields)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[field.strip() for field in line.split(",")] for line in answer.stdout.splitlines()]
    return [row for row in rows if len(row) == len(fields) and any(row)]
