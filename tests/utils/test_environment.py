"""The doctor: what is wrong with an installation, and what would mend it."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
from typing import Any

import pytest
from packaging.requirements import Requirement

from edgepeft.utils import environment as doctor

HEALTHY: dict[str, str | None] = {
    **dict.fromkeys(doctor.LIBRARIES),
    "torch": "2.13.0+cpu",
    "transformers": "5.23.0",
    "onnx": "1.23.2",
    "onnxruntime": "1.31.1",
    "onnxruntime-genai": "0.18.0",
}


def test_a_healthy_installation_has_no_problems() -> None:
    assert doctor.problems(HEALTHY) == []
    assert doctor.problems(dict.fromkeys(doctor.LIBRARIES)) == []
    assert doctor.problems({}) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("onnxruntime", "onnxruntime-gpu"), ("onnxruntime-genai", "onnxruntime-genai-cuda")],
)
def test_two_packages_over_the_same_files(one: str, other: str) -> None:
    (found,) = doctor.problems({**HEALTHY, one: "1.31.1", other: "1.31.1"})
    assert f"{one} and {other} are both installed" in found
    assert f"pip uninstall {one} {other}" in found
    assert "edgepeft[cpu], edgepeft[cuda]" in found
    assert doctor.problems({**HEALTHY, one: None, other: "1.31.1"}) == []


@pytest.mark.parametrize(
    ("library", "version", "wanted"),
    [
        ("torch", "2.9.1+cu121", "torch>=2.10"),
        ("torch", "1.13.1", "torch>=2.10"),
        ("transformers", "4.57.6", "transformers>=5.3"),
        ("transformers", "5.2.0", "transformers>=5.3"),
        ("onnx", "1.20.0", "onnx>=1.21"),
    ],
)
def test_versions_with_known_holes(library: str, version: str, wanted: str) -> None:
    (found,) = doctor.problems({**HEALTHY, library: version})
    assert f"{library} {version} has known vulnerabilities" in found
    # The newest release that was tried stands beside the oldest that is safe.
    (asked,) = re.findall(r"pip install '([^']*)'", found)
    assert set(Requirement(wanted).specifier) <= set(Requirement(asked).specifier)
    assert Requirement(asked).name == library


@pytest.mark.parametrize(
    ("library", "version"),
    [("torch", "2.10.0"), ("torch", "3.0"), ("transformers", "5.3.0.dev0"), ("onnx", "1.21.0rc1")],
)
def test_the_floor_itself_is_sound(library: str, version: str) -> None:
    assert doctor.problems({**HEALTHY, library: version}) == []


def test_versions_are_those_that_are_installed() -> None:
    found = doctor.versions()
    assert set(found) == set(doctor.LIBRARIES)
    assert found["numpy"] == importlib.metadata.version("numpy")
    assert found["onnxruntime-gpu"] is None


def nvidia(answer: Any) -> Any:
    def run(command: list[str], **options: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(command, 0, stdout=answer)

    return run


@pytest.mark.parametrize(
    ("tool", "answer", "expected"),
    [
        (None, "", []),
        (
            "/usr/bin/nvidia-smi",
            "NVIDIA H200, 143771 MiB, 590.1\n\n",
            ["NVIDIA H200, 143771 MiB, 590.1"],
        ),
        ("/usr/bin/nvidia-smi", "No devices were found\n", []),
        ("/usr/bin/nvidia-smi", subprocess.CalledProcessError(9, "nvidia-smi"), []),
        ("/usr/bin/nvidia-smi", subprocess.TimeoutExpired("nvidia-smi", 10), []),
        ("/usr/bin/nvidia-smi", OSError("no driver"), []),
    ],
)
def test_gpus_are_those_the_driver_names(
    monkeypatch: pytest.MonkeyPatch, tool: str | None, answer: Any, expected: list[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: tool)
    monkeypatch.setattr(subprocess, "run", nvidia(answer))
    assert doctor.hardware()["gpus"] == expected


def test_hardware_is_measured_not_guessed() -> None:
    facts = doctor.hardware()
    assert facts["cores"] >= 1
    assert 0 < facts["free_memory_bytes"] <= facts["memory_bytes"]
    assert facts["free_disk_bytes"] > 0
    assert "Python" in facts["system"]
    assert facts["processor"]
