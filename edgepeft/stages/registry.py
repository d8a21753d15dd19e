"""Every kind of stage, declared once: its version, what carries it out, what must be installed for it.

Planning, keys, manifests and requirements read this registry. A kind may have several forms, as a generator's and
an encoder's base; where a target's exporter carries a stage out, the form is the exporter's name.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edgepeft.errors import MissingError

Needs = Mapping[str, tuple[str, ...]]
"""Extra of the package, and the modules of it that must be there."""

ENCODER = "encoder"
"""The form of stages that are others for encoders."""
_MODEL = ("torch", "transformers", "safetensors", "accelerate")
_ADAPTED = (*_MODEL, "peft", "bitsandbytes")


@dataclass(frozen=True)
class StageSpec:
    """A kind of stage.

    ``version`` is raised when its output changes for the same inputs, so that old outputs are not reused.
    ``functions`` name a function ``Job -> dict`` by form, imported in the stage's own process alone and no part
    of its key. ``form_needs`` are what a form needs beyond ``needs``; ``writes`` is what its manifest calls its
    folder.
    """

    kind: str
    version: int
    functions: Mapping[str, str]
    needs: Needs
    form_needs: Mapping[str, Needs] = field(default_factory=dict)
    writes: str = "stage"


_SPECS = (
    StageSpec(
        "base",
        3,
        {"": "edgepeft.checkpoints.base:run", ENCODER: "edgepeft.checkpoints.encoder_base:run"},
        {"export": (*_MODEL, "gguf")},
    ),
    StageSpec(
        "train",
        4,
        {"": "edgepeft.training.stage:run"},
        {"train": (*_MODEL, "peft", "trl", "bitsandbytes", "datasets")},
    ),
    StageSpec(
        "combine",
        2,
        {"": "edgepeft.combination.stage:run", "fitted": "edgepeft.combination.fitting:run"},
        {"export": _ADAPTED},
    ),
    StageSpec("merge", 3, {"": "edgepeft.merging.stage:run"}, {"export": _ADAPTED}),
    StageSpec(
        "quantize",
        8,
        {"": "edgepeft.quantization.stage:run", "lossless": "edgepeft.quantization.lossless:run"},
        {"export": _MODEL},
    ),
    StageSpec(
        "export",
        8,
        {},
        {"export": (*_MODEL, "onnx_ir"), "cpu": ("onnxruntime_genai",)},
        {ENCODER: {"export": ("optimum", "onnxscript")}},
        writes="bundle",
    ),
    StageSpec("adapt", 2, {"": "edgepeft.hot_swap.stage:run"}, {}, writes="adapter"),
    StageSpec(
        "witness",
        1,
        {
            "": "edgepeft.evaluation.witness.stage:run",
            ENCODER: "edgepeft.evaluation.witness.encoders:run",
        },
        {"export": (*_ADAPTED, "gguf")},
    ),
    StageSpec(
        "float-graph",
        1,
        {"": "edgepeft.evaluation.witness.float_graph:run"},
        {"export": (*_ADAPTED, "onnx_ir"), "cpu": ("onnxruntime", "onnxruntime_genai")},
    ),
    StageSpec(
        "reference",
        6,
        {
            "": "edgepeft.evaluation.reference:run",
            ENCODER: "edgepeft.evaluation.encoders:reference",
        },
        {"export": _ADAPTED},
    ),
    StageSpec(
        "verify",
        3,
        {"": "edgepeft.evaluation.verify:run", ENCODER: "edgepeft.evaluation.encoders:verify"},
        {"export": ("torch", "safetensors"), "cpu": ("onnxruntime", "onnxruntime_genai")},
    ),
)

STAGES: Mapping[str, StageSpec] = {spec.kind: spec for spec in _SPECS}
"""Kinds of stages by name, in the order of a build."""

ORDER = tuple(kind for kind in STAGES if kind != "adapt")
"""Kinds that a build may stop at; putting adapters into a hot-swap bundle goes with its export."""


def require_libraries(kinds: Iterable[str], form: str = "") -> None:
    """Raise MissingError, naming what to install, unless every library of these stages is there."""
    missing: dict[str, str] = {}
    for kind in kinds:
        spec = STAGES[kind]
        for needs in (spec.needs, spec.form_needs.get(form, {})):
            for extra, modules in needs.items():
                for module in modules:
                    if importlib.util.find_spec(module) is None:
                        missing.setdefault(extra, module)
    if missing:
        extras = ",".join(sorted(missing))
        module = next(iter(missing.values()))
        raise MissingError(f"{module} is not installed: pip install 'edgepeft[{extras}]'")
