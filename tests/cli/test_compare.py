"""``edgepeft compare`` and byte budgets, from end to end on a tiny run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgepeft.errors import InputError
from edgepeft.pipeline.compare import variants
from tests.cli.conftest import Built
from tests.command import edgepeft


def test_every_combination_is_measured_beside_the_runs_own_bundles(
    built: Built, tmp_path: Path
) -> None:
    bundles = {path: path.stat().st_mtime_ns for path in (built.out / "bundles").rglob("*")}
    picture = tmp_path / "picture.png"
    vary = ["--vary", "targets=cpu-int4", "--vary", "quantize.algorithm=rtn,gptq"]
    vary += ["--vary", "quantize.calibration.tokens=128"]
    done = edgepeft("compare", built.out, *vary, "--json", "--picture", picture)
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)
    assert [entry["values"]["quantize.algorithm"] for entry in entries] == ["rtn", "gptq"]
    nearest, calibrated = (entry["fidelity"]["generic_kl"] for entry in entries)
    # On random weights neither is better; that they are apart shows that each was rounded its own way.
    assert 0 < calibrated != nearest > 0
    assert all("int4 asymmetric" in entry["weights"]["linear"] for entry in entries)
    assert picture.read_bytes().startswith(b"\x89PNG")
    stored = json.loads((built.out / "comparison.json").read_text())
    assert stored["entries"] == entries
    # The run's own bundles were neither replaced nor touched.
    assert bundles == {path: path.stat().st_mtime_ns for path in (built.out / "bundles").rglob("*")}

    again = edgepeft("compare", built.out, *vary, "--progress", "jsonl")
    assert again.returncode == 0, again.stderr
    assert "started" not in {json.loads(line)["event"] for line in again.stderr.splitlines()}
    assert "gptq" in again.stdout
    assert "generic KL (nats per token) against bundle size" in again.stdout


def test_a_combination_that_fails_does_not_stop_the_rest(built: Built) -> None:
    vary = ["--vary", "targets=cpu-int8", "--vary", "quantize.max_bytes=105MB,null"]
    done = edgepeft("compare", built.out, *vary, "--json")
    assert done.returncode == 0, done.stderr
    failed, measured = json.loads(done.stdout)
    assert "use int4 targets only" in failed["error"]
    assert measured["fidelity"]["exact_match"] is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vary", "quantize.head"], "write it as key=value,value"),
        (["--vary", "quantize.heads=int4"], "quantize.heads: no such key; did you mean head?"),
        (["--vary", "merge.base=x", "--vary", "merge.base=y"], "merge.base is given twice"),
        (["--picture", "p.gif"], "must end in .png or .svg"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    built: Built, arguments: list[str], message: str
) -> None:
    done = edgepeft("compare", built.out, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.touch()
    for path in (tmp_path, recipe):
        done = edgepeft("compare", path)
        assert done.returncode == 2
        assert f"{path}: not the folder of a run" in done.stderr


def test_axes_multiply() -> None:
    made = variants(["a=1,2", "b=x, y"])
    assert [variant.overrides for variant in made] == [
        ["a=1", "b=x"],
        ["a=1", "b=y"],
        ["a=2", "b=x"],
        ["a=2", "b=y"],
    ]
    with pytest.raises(InputError, match="key=value"):
        variants(["a="])


def test_a_bundle_stays_within_its_budget(built: Built) -> None:
    vary = ["--vary", "targets=cpu-int4", "--vary", "quantize.max_bytes=540kB,700kB"]
    done = edgepeft("compare", built.out, *vary, "--json")
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)
    measured = [entry for entry in entries if "fidelity" in entry]
    assert measured, entries
    for entry in measured:
        assert (
            entry["bytes"] <= float(entry["values"]["quantize.max_bytes"].removesuffix("kB")) * 1000
        )


def test_a_budget_out_of_reach_is_refused_before_anything_is_trained(
    built: Built, tmp_path: Path
) -> None:
    done = edgepeft(
        "build", built.recipe, "--out", tmp_path / "run", "-s", "targets=cpu-int4",
        "-s", "quantize.max_bytes=10kB",
    )  # fmt: skip
    assert done.returncode == 2
    assert "quantize.max_bytes: 10000 is out of reach" in done.stderr
    assert not (tmp_path / "run" / "stages").exists()
