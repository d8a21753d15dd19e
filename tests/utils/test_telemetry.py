"""The switches of every library that reports are set before any of them loads, whoever loads it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgepeft.utils.telemetry import SWITCHES, switched_off
from tests.command import edgepeft

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment as a user's: a home that has nothing in it, no switch, and no sign of a CI system, in which
    onnxruntime would keep quiet by itself.
    """
    kept = {"PATH", "LD_LIBRARY_PATH", "EDGEPEFT_CACHE", "EDGEPEFT_STATE", "LANG", "VIRTUAL_ENV"}
    home = tmp_path / "home"
    home.mkdir()
    return {**{name: os.environ[name] for name in kept & set(os.environ)}, "HOME": str(home)}


def left_behind(environment: dict[str, str]) -> list[str]:
    """Files below the home, those that Python itself may write left out."""
    home = Path(environment["HOME"])
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


def run(code: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_fault_is_there_without_the_switches(bare: dict[str, str]) -> None:
    """onnxruntime leaves a device id and a store behind when it is merely imported: what the others are held
    to.
    """
    pytest.importorskip("onnxruntime")
    run("import onnxruntime", bare)
    if not any("Microsoft" in name for name in left_behind(bare)):
        pytest.skip("this onnxruntime keeps no store of events")
    assert any(name.endswith("deviceid") for name in left_behind(bare))


@pytest.mark.parametrize(
    "code",
    [
        "import edgepeft, onnxruntime",
        "import edgepeft.runtime, onnxruntime, onnxruntime_genai",
        "import edgepeft_exporters.decoder.graph, onnxruntime",
        "import edgepeft.stages.worker, edgepeft.fleet.remote, onnxruntime",
    ],
)
def test_importing_ours_first_leaves_nothing(code: str, bare: dict[str, str]) -> None:
    pytest.importorskip("onnxruntime_genai")
    run(code, bare)
    assert left_behind(bare) == []


def test_answering_as_a_library_leaves_nothing(tiny_bundle: Path, bare: dict[str, str]) -> None:
    run(
        f"from edgepeft.runtime import Runtime; Runtime({str(tiny_bundle)!r}).complete('hi', max_new_tokens=4)",
        bare,
    )
    assert left_behind(bare) == []


def test_the_command_leaves_nothing(tiny_bundle: Path, bare: dict[str, str]) -> None:
    for arguments in (
        ("run", tiny_bundle, "hi", "--max-new-tokens", "4"),
        ("verify", tiny_bundle),
        ("doctor",),
        ("bench", tiny_bundle, "--prompt-tokens", "4", "--new-tokens", "4", "--rounds", "1"),
    ):
        done = edgepeft(*arguments, env={**dict.fromkeys(os.environ, ""), **bare})
        assert done.returncode == 0, done.stderr
        assert left_behind(bare) == []


def test_the_sample_leaves_nothing(tiny_bundle: Path, bare: dict[str, str]) -> None:
    sample = ROOT / "samples" / "device" / "answer.py"
    subprocess.run(
        [sys.executable, sample, tiny_bundle, "hi"], env=bare, capture_output=True, check=True
    )
    assert left_behind(bare) == []


def test_where_onnxruntime_came_first_its_events_are_switched_off() -> None:
    code = (
        "import sys, types\n"
        "called = []\n"
        "sys.modules['onnxruntime'] = types.SimpleNamespace(disable_telemetry_events=lambda: called.append(1))\n"
        "import edgepeft\n"
        "print(len(called))"
    )
    assert run(code, dict(os.environ)) == "1\n"


def test_a_switch_that_was_turned_the_other_way_is_turned_back() -> None:
    other = {**os.environ, **dict.fromkeys(SWITCHES, "0")}
    code = f"import edgepeft, os; print([os.environ[name] for name in {list(SWITCHES)!r}])"
    assert run(code, other) == f"{['1'] * len(SWITCHES)}\n"
    assert switched_off()


def test_the_hub_and_its_users_see_the_switch() -> None:
    pytest.importorskip("huggingface_hub")
    code = "import edgepeft; from huggingface_hub import constants; print(constants.HF_HUB_DISABLE_TELEMETRY)"
    assert run(code, {**os.environ, "HF_HUB_DISABLE_TELEMETRY": ""}) == "True\n"


def test_doctor_says_so() -> None:
    import json

    shown = edgepeft("doctor").stdout
    assert re.search(r"telemetry +off \(ORT_DISABLE_TELEMETRY", shown)
    facts = json.loads(edgepeft("doctor", "--json").stdout)["hardware"]["telemetry"]
    assert facts["off"] is True
    assert set(facts["switches"]) == set(SWITCHES)


@pytest.mark.parametrize("name", ["answer.mjs", "read.mjs", "answer.cpp"])
def test_samples_that_are_not_python_set_it_before_the_library_loads(name: str) -> None:
    """How it is done there is read here; that it works is shown where those samples are run."""
    text = (ROOT / "samples" / "device" / name).read_text(encoding="utf-8")
    if name.endswith("mjs"):
        # Imports are carried out in their order, before the first line of the file.
        imported = re.findall(r"^import .* from '(.*)'", text, re.MULTILINE)
        assert imported[0] == "./setup.mjs"
        text = (ROOT / "samples" / "device" / "setup.mjs").read_text(encoding="utf-8")
    assert "ORT_DISABLE_TELEMETRY" in text
