"""The wheel in an environment that holds nothing else: the runtime is light, and bundles run."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.real
ROOT = Path(__file__).resolve().parents[2]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = DECLARED["project"]
BUILT: dict[str, Any] = DECLARED["tool"]["hatch"]["build"]["targets"]["wheel"]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    place = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", place, ROOT],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (built,) = place.glob("edgepeft-*.whl")
    return built


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The interpreter of a fresh environment with ``edgepeft[cpu]`` installed from its wheel."""
    root = tmp_path_factory.mktemp("device")
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


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    """Modules, texts, styles and marks of types; links are in it as the files that they lead to."""
    packed = {
        name: info.file_size for name, info in contents(wheel).items() if ".dist-info/" not in name
    }
    lying = {
        f"{package.name}/{file.relative_to(package).as_posix()}": file.stat().st_size
        for package in map(ROOT.joinpath, BUILT["packages"])
        for file in files_below(package)
    }
    assert packed == lying
    assert {"edgepeft/calibration/corpora/generic-eval.txt", "edgepeft_tui/styles.tcss"} <= set(
        packed
    )
    assert "edgepeft_tui/samples/recipes/home-control.yaml" in packed


def test_what_the_wheel_says_of_itself_is_the_projects(wheel: Path) -> None:
    """Entry points, extras and licence are those of ``pyproject.toml``."""
    with zipfile.ZipFile(wheel) as archive:
        (points,) = (name for name in archive.namelist() if name.endswith("/entry_points.txt"))
        said = configparser.ConfigParser()
        said.read_string(archive.read(points).decode())
        metadata = message_from_bytes(archive.read(points.replace("entry_points.txt", "METADATA")))
        assert f"{points.partition('/')[0]}/licenses/LICENSE" in archive.namelist()
    declared = {"console_scripts": PROJECT["scripts"], **PROJECT["entry-points"]}
    assert {group: dict(said[group]) for group in said.sections()} == declared
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    assert metadata["Requires-Python"] == PROJECT["requires-python"]


def contents(wheel: Path) -> dict[str, zipfile.ZipInfo]:
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info for info in archive.infolist() if not info.is_dir()}


def files_below(package: Path) -> Iterator[Path]:
    """The files of a package, those behind its links too, without what Python leaves there."""
    for folder, folders, names in os.walk(package, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (Path(folder, name) for name in names)


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
