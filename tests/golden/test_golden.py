"""Every stage's output on tiny models is what was recorded for its version.

Finished stages are reused by key, and a key contains the stage's version: a change of output under the same
version would mix old outputs with new ones. ``EDGEPEFT_GOLDEN=write`` records; it refuses a changed output whose
version was not raised. Where the test itself changed, as its models, delete the file in ``recorded`` first.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgepeft.pipeline.kinds.registry import all_kinds
from tests.golden.compare import Output, complaints
from tests.golden.runs import RUNS, carrier
from tests.golden.summary import of_stage

RECORDED = Path(__file__).with_name("recorded")
_MEND = "\nThen run EDGEPEFT_GOLDEN=write pytest tests/golden, and commit what it records."
Outputs = dict[str, Output]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Outputs]]:
    """``outputs(run)``: what a run's stages made just now, in the order of a build."""
    for library in ("torch", "trl", "bitsandbytes", "onnxruntime_genai", "optimum"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    root = tmp_path_factory.mktemp("golden")
    with carrier(root) as carry_out:
        yield lambda run: _outputs(carry_out(run), root)


@pytest.mark.parametrize("run", RUNS)
def test_output_is_as_recorded_for_its_version(run: str, outputs: Callable[[str], Outputs]) -> None:
    file, present = RECORDED / f"{run}.json", outputs(run)
    recorded = _read(file)
    told = complaints(run, recorded, present)
    if os.environ.get("EDGEPEFT_GOLDEN") == "write":
        told = [one for one in told if "raise the version" in one] if recorded else []
    if told:
        pytest.fail("\n".join(told) + _MEND, pytrace=False)
    if os.environ.get("EDGEPEFT_GOLDEN") == "write":
        _write(file, present)


def test_every_kind_of_stage_is_recorded() -> None:
    recorded = [_read(RECORDED / f"{run}.json") for run in RUNS]
    assert {output.kind for made in recorded for output in made.values()} == set(all_kinds())


def _outputs(run: Path, root: Path) -> Outputs:
    """A run's finished stages by name, from the folders that hold a manifest."""
    places = {"stages": "*/edgepeft.json", "bundles": "**/edgepeft.json"}
    manifests = {
        file.parent: json.loads(file.read_text(encoding="utf-8"))
        for place, pattern in places.items()
        for file in (run / place).glob(pattern)
    }
    names = {manifest["key"]: manifest["stage"] for manifest in manifests.values()}
    kinds = list(all_kinds())
    outputs = {}
    for folder, manifest in manifests.items():
        name = manifest["stage"]
        kind = next(kind for kind in kinds if name == kind or name.startswith(f"{kind}-"))
        reads = tuple(names[key] for key in manifest["inputs"].values() if key in names)
        outputs[name] = Output(kind, all_kinds()[kind].version, of_stage(folder, root), reads)
    return dict(sorted(outputs.items(), key=lambda item: (kinds.index(item[1].kind), item[0])))


def _read(file: Path) -> Outputs:
    if not file.is_file():
        return {}
    recorded = json.loads(file.read_text(encoding="utf-8"))
    return {
        name: Output(entry["kind"], entry["version"], entry["made"])
        for name, entry in recorded.items()
    }


def _write(file: Path, outputs: Outputs) -> None:
    """Write one line for each path, so that a change is read in the diff."""
    stages = []
    for name, output in outputs.items():
        lines = ",\n".join(
            f"  {json.dumps(path)}: {json.dumps(value)}" for path, value in output.made.items()
        )
        head = f'{json.dumps(name)}: {{"kind": "{output.kind}", "version": {output.version}, "made": {{'
        stages.append(f"{head}\n{lines}\n}}}}")
    file.parent.mkdir(exist_ok=True)
    file.write_text("{\n" + ",\n".join(stages) + "\n}\n", encoding="utf-8")
