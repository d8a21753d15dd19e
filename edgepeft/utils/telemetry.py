"""No telemetry: the switches of every library that reports, set before any of them loads.

onnxruntime 1.31 and onnxruntime-genai 0.18 write a device id and a store of events into the user's cache and
look up their collector's address, onnxruntime already when it is imported; TRL and huggingface_hub report
through the hub.
"""

from __future__ import annotations

import os
import sys

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "onnxruntime and onnxruntime-genai",
    "HF_HUB_DISABLE_TELEMETRY": "huggingface_hub, transformers, datasets and TRL",
    "DO_NOT_TRACK": "whoever keeps to that convention",
}
"""Environment variables that are 1 in every process of edgepeft, and the libraries that read them."""

_IN_OTHER_WORDS = {
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets, of every data set that is loaded
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}
"""What libraries that ask for another word are told, unless the user has told them something."""


def disable() -> None:
    """Set every switch, for this process and those it starts; ``import edgepeft`` does so first of all.

    Where onnxruntime was imported before, its events are switched off as well; what it wrote when it was imported
    is the importer's.
    """
    for name in SWITCHES:
        os.environ[name] = "1"
    for name, word in _IN_OTHER_WORDS.items():
        os.environ.setdefault(name, word)
    loaded = sys.modules.get("onnxruntime")
    if loaded is not None and hasattr(loaded, "disable_telemetry_events"):
        loaded.disable_telemetry_events()


def switched_off() -> bool:
    """Whether every switch is set in this process."""
    return all(os.environ.get(name) == "1" for name in SWITCHES)
