"""``--junit`` and ``--summary`` on commands that measure: written whole, whatever becomes of the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Built
from tests.command import build_json, edgepeft
from tests.junit import outcomes, read_junit

MISSED = ("--set", "gates.max_generic_kl=1e-6")


def test_a_missed_gate_is_in_both_files(built: Built, tmp_path: Path) -> None:
    junit, summary = tmp_path / "junit.xml", tmp_path / "summary.md"
    junit.write_text("what another build left")
    summary.write_text("# Earlier\n")
    files = ("--junit", junit, "--summary", summary)
    done = edgepeft("build", built.recipe, "--out", built.out, *MISSED, *files)
    assert done.returncode == 4, done.stderr
    root = read_junit(junit)
    rounded, exact = list(root)
    assert [suite.get("name") for suite in root] == ["tiny.cpu-int8", "tiny.cpu-fp32"]
    assert (root.get("failures"), exact.get("failures")) == ("1", "0")
    assert outcomes(rounded)["max_generic_kl"] == "failure"
    assert outcomes(exact)["max_generic_kl"] == "passed"
    assert outcomes(rounded)["max_exact_match_drop"] == "skipped"
    assert outcomes(exact)["max_float_difference: the bundle"] == "passed"
    (failure,) = root.iter("failure")
    assert "try targets: cpu-fp32" in (failure.text or "")
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("# Earlier\n## edgepeft: tiny\n")
    assert "**cpu-int8 missed 1 of its gates**" in text
    passed = edgepeft("build", built.recipe, "--out", built.out, *files)
    assert passed.returncode == 0, passed.stderr
    assert read_junit(junit).get("failures") == "0"
    assert summary.read_text(encoding="utf-8").count("## edgepeft: tiny") == 2


def test_a_bundle_is_reported_as_it_was_sealed(built: Built, tmp_path: Path) -> None:
    bundle = Path(built.result["bundles"][0]["path"])
    junit, summary = tmp_path / "junit.xml", tmp_path / "summary.md"
    done = edgepeft("verify", bundle, "--junit", junit, "--summary", summary)
    assert done.returncode == 0, done.stderr
    (suite,) = read_junit(junit)
    assert suite.get("name") == "cpu-int8.cpu-int8"
    assert outcomes(suite)["min_reference_gain"] == "passed"
    assert "| cpu-int8 |" in summary.read_text(encoding="utf-8")
    elsewhere = edgepeft("verify", tmp_path, "--junit", junit)
    assert elsewhere.returncode == 2
    (broken,) = read_junit(junit)
    assert outcomes(broken) == {"completes": "error"}


def test_variants_have_a_suite_each(built: Built, tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    vary = ["--vary", "targets=cpu-int8", "--vary", "quantize.max_bytes=105MB,null"]
    done = edgepeft("compare", built.out, *vary, "--junit", junit)
    assert done.returncode == 0, done.stderr
    failed, measured = list(read_junit(junit))
    assert failed.get("name") == "run.cpu-int8 105MB"
    assert outcomes(failed) == {"completes": "error"}
    assert outcomes(measured)["max_float_difference: the reference"] == "passed"


def test_cells_of_a_matrix_have_a_suite_each(built: Built, tmp_path: Path) -> None:
    recipe = built.carried(
        tmp_path / "fleet.yaml",
        gates={"max_exact_match_drop": None, "max_task_kl": 1e-9},
        matrix={"quantize.block_size": [32, 64]},
    )
    junit, summary = tmp_path / "junit.xml", tmp_path / "summary.md"
    done = edgepeft(
        *("build", recipe, "--out", tmp_path / "run", "--json"),
        *("--junit", junit, "--summary", summary),
    )
    assert done.returncode == 4, done.stderr
    cells = [cell["cell"] for cell in json.loads(done.stdout)["cells"]]
    assert [suite.get("name") for suite in read_junit(junit)] == [f"fleet.{cell}" for cell in cells]
    assert all(outcomes(suite)["max_task_kl"] == "failure" for suite in read_junit(junit))
    assert f"{cells[0]}: try quantize.learn_steps: 40" in done.stderr
    assert summary.read_text(encoding="utf-8").count("| MISSED |") == 2


def test_a_build_that_fails_leaves_an_error(built: Built, tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    done = edgepeft(
        *("build", built.recipe, "--out", tmp_path / "run", "--junit", junit),
        *("--set", "model=/no/such/model"),
    )
    assert done.returncode == 2
    (suite,) = read_junit(junit)
    (error,) = suite.iter("error")
    assert error.attrib["message"] in done.stderr


@pytest.mark.parametrize("option", ["--junit", "--summary"])
def test_a_file_that_cannot_be_written_is_told_first(
    built: Built, tmp_path: Path, option: str
) -> None:
    done = edgepeft(
        "build", built.recipe, "--out", tmp_path / "run", option, tmp_path / "no" / "file"
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_measures_nothing_has_no_report(built: Built, tmp_path: Path) -> None:
    dry = edgepeft("build", built.recipe, "--dry-run", "--junit", tmp_path / "junit.xml")
    assert (dry.returncode, dry.stderr.count("\n")) == (2, 1)
    assert "--junit: a dry run measures nothing" in dry.stderr
    for command in ("train", "merge", "quantize", "export"):
        assert edgepeft(command, built.recipe, "--junit", "x").returncode == 2
        assert "--junit" not in edgepeft(command, "--help").stdout
    for command in ("build", "verify", "compare"):
        assert "--junit" in edgepeft(command, "--help").stdout
    build_json(built.recipe, "--out", built.out)
