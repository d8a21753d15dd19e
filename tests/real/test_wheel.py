"""The wheel in an environment that holds nothing else: the runtime is light, and bundles run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.real
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with ``edgepeft[cpu]`` installed from its wheel."""
    root = tmp_path_factory.mktemp("device")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", root, ROOT],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (wheel,) = root.glob("edgepeft-*.whl")
    subprocess.run([sys.executable, "-m", "venv", root / "venv"], check=True)
    python = root / "venv" / "bin" / "python"
    constraints = ["-c", str(ROOT / "constraints.txt")]
    subprocess.run(
        [python, "-m", "pip", "install", "-q", *constraints, f"{wheel}[cpu]"], check=True, cwd=root
    )
    return python


def _run(python: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(python.parent / "edgepeft"), *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=python.parent,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_the_wizards_demo_is_in_the_wheel(device: Path) -> None:
    """In the repository its samples are links; a wheel must hold the files."""
    (package,) = device.parents[1].glob("lib/python*/site-packages/edgepeft_tui")
    recipe = package / "samples" / "recipes" / "home-control.yaml"
    data = yaml.safe_load(recipe.read_text(encoding="utf-8"))["data"]
    for name in ("train", "test"):
        assert (recipe.parent / data[name]).stat().st_size > 10_000
    assert (package / "styles.tcss").is_file()


def test_no_training_library_comes_along(device: Path) -> None:
    """numpy, onnxruntime, tokenizers, a template engine: nothing that trains."""
    listed = subprocess.run(
        [device, "-m", "pip", "list", "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {entry["name"].lower() for entry in json.loads(listed.stdout)}
    assert not names & {"torch", "transformers", "peft", "trl", "datasets", "bitsandbytes", "onnx"}
    assert {"onnxruntime", "onnxruntime-genai"} <= names


def test_bundle_runs_from_the_wheel(device: Path, smollm2: dict[str, Any]) -> None:
    """The answer is the one that the building environment gives."""
    from edgepeft.runtime import Runtime

    bundle, prompt = smollm2["bundles"][0]["path"], "Please turn on the heater in the attic."
    done = _run(device, "run", bundle, prompt, "--max-new-tokens", "32")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == Runtime(bundle).complete(prompt, max_new_tokens=32).text.strip()


def test_library_use_from_the_wheel(device: Path, smollm2: dict[str, Any]) -> None:
    """``from edgepeft.runtime import Runtime`` is all a program needs."""
    code = (
        "import sys\n"
        "from edgepeft.runtime import Runtime\n"
        f"print(Runtime({smollm2['bundles'][0]['path']!r}).complete('hello', max_new_tokens=4).text)\n"
    )
    done = subprocess.run([device, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip()


def test_training_commands_say_what_to_install(device: Path, tmp_path: Path) -> None:
    """A build without its libraries is exit 3 and one line with the mend, not a traceback."""
    recipe = ROOT / "samples" / "recipes" / "home-control.yaml"
    done = _run(device, "build", recipe, "--out", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr
    assert _run(device, "doctor").returncode == 0
    assert _run(device, "targets").returncode == 0
