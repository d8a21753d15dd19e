"""A bundle that runs and whose template writes tools."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.runtime.fabricate import write_manifest
from tests.tool_calling.templates import SAMPLE


def write_tools_bundle(folder: Path, tiny_bundle: Path) -> Path:
    """A copy of ``tiny_bundle`` in ``folder``, with the sample's template and room for its tools."""
    shutil.copytree(tiny_bundle, folder)
    (folder / "chat_template.jinja").write_text(SAMPLE)
    (folder / "edgepeft.json").unlink()
    write_manifest(folder, context_length=512)
    return folder
