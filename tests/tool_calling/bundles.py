"""A bundle that runs and whose template writes tools, and tools to ask it with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from edgepeft.data.tools import read_tools
from edgepeft.runtime import Runtime
from tests.runtime.fabricate import write_manifest
from tests.tool_calling.templates import SAMPLE

PROMPT = "Turn on the light in the hall."
# Bounded throughout, for the tiny model writes texts without end.
LIGHT = {
    "type": "object",
    "properties": {
        "room": {"enum": ["kitchen", "hall"]},
        "level": {"type": "integer", "minimum": 0, "maximum": 99},
        "on": {"type": "boolean"},
    },
    "required": ["room"],
}
GIVEN: list[Any] = [
    {
        "type": "function",
        "function": {"name": "set_light", "description": "d", "parameters": LIGHT},
    },
    {"type": "function", "function": {"name": "stop"}},
]
TOOLS = read_tools(GIVEN, "tools")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``tiny_bundle`` with the sample's template and room for its tools."""
    folder = tmp_path_factory.mktemp("tools") / "bundle"
    shutil.copytree(tiny_bundle, folder)
    (folder / "chat_template.jinja").write_text(SAMPLE)
    (folder / "edgepeft.json").unlink()
    write_manifest(folder, context_length=512)
    return folder


@pytest.fixture(scope="module")
def runtime(bundle: Path) -> Runtime:
    """That bundle, loaded."""
    return Runtime(bundle, threads=1)
