"""What every test shares: a cache and a history of its own, and tiny models made once a session."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import settings

import edgepeft  # noqa: F401  (its import turns telemetry off, before any test imports onnxruntime)
from tests.tiny import write_tiny_model

ModelMaker = Callable[..., Path]
SAMPLES = Path(__file__).resolve().parents[1] / "samples"

# The same examples in every run, however slow the machine; nothing is kept between runs.
settings.register_profile("same", deadline=None, derandomize=True, database=None)
settings.load_profile("same")

if importlib.util.find_spec("torch") is None:
    # These need the libraries of the extras from their first import; the rest runs without.
    collect_ignore = [
        "adapters",
        "architectures",
        "calibration",
        "checkpoints",
        "combination",
        "compat",
        "encoders",
        "evaluation",
        "exporters",
        "harness",
        "merging",
        "methods",
        "metrics",
        "quantization",
        "training",
    ]

MINUTES = {"real": 40, "methods": 30, "architectures": 30}
"""Limits of a test, in minutes, in folders whose fixtures build for long; elsewhere pyproject.toml says it."""


LONGEST = (
    *("docs/test_commands.py", "training/test_processes.py", "architectures/test_matrix.py"),
    *("architectures/test_encoders.py", "encoders/test_bundles.py", "cli/test_build.py"),
    *("methods/test_bundles.py", "fleet/test_build.py", "tui/test_snapshots.py"),
    *("encoders/test_compare.py", "cli/test_adapters.py", "tui/test_focus.py"),
)
"""Files that take minutes. They are begun first, so that none of them is left alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the longest files to the front, and give the tests of some folders their limit."""
    here = Path(__file__).parent
    place = {here / file: index for index, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))
    for item in items:
        minutes = MINUTES.get(item.path.relative_to(here).parts[0])
        if minutes is not None:
            item.add_marker(pytest.mark.timeout(60 * minutes))


@pytest.fixture(scope="session", autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the digest cache and the list of runs out of the user's home, for what a session builds once too."""
    root = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEPEFT_CACHE", str(root / "cache"))
        patch.setenv("EDGEPEFT_STATE", str(root / "state"))
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> ModelMaker:
    """``tiny_model(family, **options)``: the folder of a tiny model; not to be changed."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    made: dict[Any, Path] = {}

    def get(family: str, **options: Any) -> Path:
        key = (family, *sorted(options.items()))
        if key not in made:
            made[key] = write_tiny_model(tmp_path_factory.mktemp(family), family, **options)
        return made[key]

    return get


@pytest.fixture
def webgpu() -> str:
    """The name of the adapter that WebGPU runs on here; skips where there is none, not even in software."""
    from edgepeft.errors import MissingError
    from edgepeft.runtime.devices import SOFTWARE, WEBGPU, find_adapter

    # Set for good: the plug-in reads its own variable once, when a process first loads it.
    os.environ[SOFTWARE] = "1"
    try:
        return find_adapter(WEBGPU).name
    except MissingError as error:
        return skip_device(str(error))


@pytest.fixture(scope="session")
def node() -> str:
    """The Node program, with the samples' packages installed."""
    found = shutil.which("node")
    if found is None:
        return skip_device("Node is not installed")
    if not (SAMPLES / "node_modules" / "@huggingface" / "transformers").is_dir():
        return skip_device("transformers.js is not installed in samples/")
    return found


def skip_device(reason: str) -> NoReturn:
    """Skip a test whose runtime is not here; fail it where ``make devices`` was to bring it (in CI)."""
    if os.environ.get("EDGEPEFT_REQUIRE_DEVICES") == "1":
        pytest.fail(f"{reason}; run make devices")
    pytest.skip(f"{reason}; make devices brings it")
