"""What this machine has: libraries and their versions, hardware really seen, and what is wrong with it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from typing import Any

from edgepeft.utils import nvidia, telemetry
from edgepeft.utils.extras import fits, floor, installed_version
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

SECURED = ("torch", "transformers", "onnx")
"""Libraries with known security holes below the version that edgepeft asks for."""

_OF_GPUS = ("name", "memory.total", "driver_version")


def versions() -> dict[str, str | None]:
    """Installed version of each library, None where it is absent."""
    return {library: installed_version(library) for library in LIBRARIES}


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
    for name in SECURED:
        version, wanted = installed.get(name), floor(name)
        if version and wanted is not None and not fits(wanted, version):
            found.append(
                f"{name} {version} has known vulnerabilities: pip install '{name}{wanted.specifier}'"
            )
    return found


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
        "gpus": [", ".join(facts) for facts in nvidia.query("gpu", *_OF_GPUS)],
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
