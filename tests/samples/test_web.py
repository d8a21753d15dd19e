"""The chat page's server hands out what a bundle's manifest lists, and nothing else of the folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.runtime.conftest import tiny_bundle
from tests.runtime.fabricate import MODEL, edit_json, write_manifest
from tests.runtimes import SAMPLES

__all__ = ["tiny_bundle"]


def status(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_only_listed_files_are_handed_out(tiny_bundle: Path, tmp_path: Path, node: str) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    edit_json(folder / "config.json", "transformers#js_config", {"dtype": "q4"})
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("transformers#js", "transformers.js"))
    write_manifest(folder)
    (folder / "special_tokens_map.json").write_text("{}")
    (tmp_path / "secret").write_text("x")
    server = subprocess.Popen(
        [sys.executable, SAMPLES / "web" / "serve.py", folder, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        for path in ("", "model/config.json", "model/edgepeft.json", f"model/{MODEL}"):
            assert status(f"{address}/{path}") == 200, path
        for path in (
            "model/special_tokens_map.json",
            "model/../secret",
            "model/%2e%2e/secret",
            "model/",
        ):
            assert status(f"{address}/{path}") == 404, path
    finally:
        server.terminate()
        server.wait(timeout=30)
