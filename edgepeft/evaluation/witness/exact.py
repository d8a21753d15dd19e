"""Which bundles the second witness is held against as they ship, and what stands in for the others.

Nothing here imports torch, for a plan asks it.
"""

from __future__ import annotations

import hashlib
import json

from edgepeft.runtime.devices import CPU
from edgepeft.targets import TargetProfile

OF_EXPORT = "export/"
"""What the names of an export stage's inputs begin with among those of the float-graph stage."""


def is_exact(target: TargetProfile) -> bool:
    """Whether a target's graph computes in float32 with weights that nothing was rounded of on the way."""
    return target.io_dtype == "fp32" and target.precision in ("fp32", "nf4")


def float_target(target: TargetProfile) -> TargetProfile:
    """The target's graph with float32 weights and activations, for the CPU; the same for all of its graph's
    form.
    """
    return TargetProfile(
        name=graph_form(target),
        summary="the float form of a graph",
        provider=CPU,
        builder_provider=target.builder_provider,
        precision="fp32",
        io_dtype="fp32",
        file_stem="model",
        js_dtype=None,
        needs="",
        graph_options=target.graph_options,
        exporter=target.exporter,
    )


def graph_form(target: TargetProfile) -> str:
    """A short name for what a target's graph is apart from its weights; targets that share it share a float
    graph.
    """
    provider = target.builder_provider.lower()
    if not target.graph_options:
        return provider
    options = json.dumps(sorted(target.graph_options.items()))
    return f"{provider}-{hashlib.sha256(options.encode()).hexdigest()[:6]}"
