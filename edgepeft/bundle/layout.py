"""What a bundle's folder is laid out for: every runtime, or one of them without what the others alone read.

The graph, its data and the tokenizer are needed by all; what tells them apart is small. A bundle for one runtime
is for those who ship that runtime's own files, or whose device must not find others' beside them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from edgepeft.errors import InputError
from edgepeft.models.tasks import GENERATION

LayoutName = Literal["all", "genai", "transformers.js", "onnxruntime"]

ADAPTERS = "adapters"
"""The folder of a bundle in which adapters lie, each with a manifest of its own."""
ANSWER_SCHEMA = "answer_schema.json"
"""The file of a bundle that bounds its answers, where nobody asks otherwise."""
ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What such an adapter, and so its folder, may be called."""

GENAI, ORT, OPTIMUM, JS = "onnxruntime-genai", "onnxruntime", "optimum", "transformers.js"
GENAI_SWITCH = 4096
"""Where onnxruntime-genai computes a cache anew for a model with long rotary factors, whatever its
configuration says.
"""
JS_CONFIG = "transformers.js_config"
"""The key of config.json that transformers.js alone reads."""


@dataclass(frozen=True)
class BundleLayout:
    """The runtimes that load such a folder unchanged, and the files of ours that it does without."""

    runtimes: tuple[str, ...]
    leaves_out: tuple[str, ...] = ()


LAYOUTS: Mapping[LayoutName, BundleLayout] = {
    "all": BundleLayout((GENAI, ORT, OPTIMUM, JS)),
    # Its tokenizer and searching are configured by genai_config.json and the tokenizer's files alone.
    "genai": BundleLayout((GENAI, ORT), ("config.json", "generation_config.json")),
    # The chat template is read out of tokenizer_config.json there.
    "transformers.js": BundleLayout((JS,), ("genai_config.json", "chat_template.jinja")),
    "onnxruntime": BundleLayout((ORT, OPTIMUM), ("genai_config.json",)),
}


def runtimes_of(
    layout: LayoutName,
    task: str,
    js_dtype: str | None,
    *,
    swaps: bool = False,
    switch: int | None = None,
    states: bool = False,
) -> tuple[str, ...]:
    """The runtimes that a bundle is for; ``js_dtype`` is its target's name in transformers.js, None for none.

    One that ``swaps`` adapters loads in all of them, but optimum and transformers.js answer as its base. Rotary
    factors that ``switch`` at a number of tokens make a cache stale there, which only some runtimes see. optimum
    feeds no ``states`` beside keys and values.
    """
    runtimes = LAYOUTS[layout].runtimes
    missing = {GENAI} if task != GENERATION else set()
    if js_dtype is None or swaps:
        missing.add(JS)
    if swaps or states:
        missing.add(OPTIMUM)
    if switch is not None:
        missing |= {JS, OPTIMUM}
        if switch != GENAI_SWITCH:
            missing.add(GENAI)
    return tuple(name for name in runtimes if name not in missing)


def check_layout(
    layout: LayoutName,
    task: str,
    js_dtypes: Mapping[str, str | None],
    swapped: Collection[str],
    switch: int | None = None,
) -> None:
    """Raise InputError where a layout leaves nothing that could run a target.

    ``js_dtypes`` are the targets' names in transformers.js by the targets' own, ``swapped`` the targets that take
    adapters, ``switch`` the number of tokens at which the model's rotary factors change.
    """
    if switch is not None:
        runtime = LAYOUTS[layout].runtimes[0]
        if layout != "all" and runtime not in runtimes_of(layout, task, "", switch=switch):
            raise InputError(
                f"layout: {layout}: {runtime} answers wrongly where this model's rotary factors change, after "
                f"{switch} tokens; choose all or onnxruntime"
            )
        if swapped and switch != GENAI_SWITCH:
            raise InputError(
                f"targets: {next(iter(swapped))}: adapters are swapped by {GENAI}, which answers wrongly "
                f"where this model's rotary factors change, after {switch} tokens; leave out adapters: hot-swap"
            )
    for name, js_dtype in js_dtypes.items():
        runtime = LAYOUTS[layout].runtimes[0]
        if layout != "all" and runtime not in runtimes_of(layout, task, js_dtype):
            what = f"{task} models" if runtime == GENAI else name
            raise InputError(
                f"layout: {layout}: {runtime} does not run {what}; choose all or onnxruntime"
            )
    for name in swapped:
        if GENAI not in LAYOUTS[layout].runtimes:
            raise InputError(
                f"layout: {layout}: {name} takes adapters, which are swapped by {GENAI}; choose all or genai"
            )
