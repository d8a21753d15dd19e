"""What this machine has: libraries and their versions, hardware really seen, and what an extra would add."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from edgepeft.utils import telemetry
from edgepeft.utils.processors import processors
from edgepeft.utils.threads import chosen_threads

LIBRARIES = (
    "edgepeft",
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "safetensors",
    "gguf",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-genai",
    "onnxruntime-genai-cuda",
    "tokenizers",
    "numpy",
)

FLOORS = {"torch": (2, 10), "transformers": (5, 3), "onnx": (1, 21)}
"""Versions below these have known security holes."""


def versions() -> dict[str, str | None]:
    """Installed version of each library, None where it is absent."""
    found: dict[str, str | None] = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = None
    return found


def problems(installed: Mapping[str, str | None]) -> list[str]:
    """What is wrong with the installation, one line each, with the mend."""
    found = []
    for pair in (
        ("onnxruntime", "onnxruntime-gpu"),
        ("onnxruntime-genai", "onnxruntime-genai-cuda"),
    ):
        if all(installed.get(name) for name in pair):
            found.append(
                f"{pair[0]} and {pair[1]} are both installed and overwrite each other's files: "
                f"pip uninstall {pair[0]} {pair[1]}, then install one of edgepeft[cpu], edgepeft[cuda]"
            )
    for name, floor in FLOORS.items():
        version = installed.get(name)
        if version and _numbers(version) < floor:
            wanted = ".".join(map(str, floor))
            found.append(
                f"{name} {version} has known vulnerabilities: pip install '{name}>={wanted}'"
            )
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def extras(installed: Mapping[str, str | None]) -> dict[str, dict[str, Any]]:
    """For each extra: whether it is complete, what it would add, and what it is for."""
    purposes = {
        "cpu": "run and verify bundles on a CPU",
        "cuda": "run bundles on an NVIDIA GPU",
        "train": "train adapters",
        "export": "merge, quantize and export",
        "serve": "serve bundles to OpenAI's clients",
    }
    report: dict[str, dict[str, Any]] = {}
    try:
        required = importlib.metadata.requires("edgepeft") or []
    except importlib.metadata.PackageNotFoundError:
        required = []
    for extra, purpose in purposes.items():
        names = [
            re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0]
            for line in required
            if re.search(rf"extra == ['\"]{extra}['\"]", line)
        ]
        missing = [name for name in names if installed.get(name) is None and not _present(name)]
        report[extra] = {"for": purpose, "complete": not missing, "adds": missing}
    return report


def _present(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def hardware() -> dict[str, Any]:
    """Processor, memory, disk and GPUs as the system reports them; no library's word is taken for a GPU.

    ``threads`` is how many engines and stages compute with; ``telemetry`` says that what libraries report is off.
    """
    import psutil

    counted = processors()
    return {
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "physical_cores": counted.cores,
        "cpu_quota": counted.quota,
        "threads": chosen_threads(),
        "telemetry": {"off": telemetry.switched_off(), "switches": dict(telemetry.SWITCHES)},
        "instructions": _instructions(),
        "memory_bytes": psutil.virtual_memory().total,
        "free_memory_bytes": psutil.virtual_memory().available,
        "free_disk_bytes": _free_disk(),
        "gpus": _nvidia_gpus(),
    }


def _free_disk() -> int:
    """Bytes free where the command stands; 0 where that folder is gone."""
    try:
        return shutil.disk_usage(".").free
    except OSError:
        return 0


def _cpuinfo(key: str) -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123
            for line in stream:
                if line.startswith(key):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or "unknown"


def _instructions() -> list[str]:
    flags = set(_cpuinfo("flags").split())
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")
    return [flag for flag in wanted if flag in flags]


def _nvidia_gpus() -> list[str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        answer = subprocess.run(
            [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]
