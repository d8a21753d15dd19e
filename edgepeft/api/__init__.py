"""edgepeft from Python: the commands as functions. What is listed here is stable; other modules are not.

``edgepeft.build``, ``plan`` and ``compare`` do what the commands of those names do. They take a recipe as its
file, a run's folder or a mapping, return what the commands print as JSON, and raise ``EdgepeftError``.
"""

from edgepeft.api.calls import RecipeLike, build, compare, plan
from edgepeft.errors import (
    EdgepeftError,
    GateError,
    InputError,
    InterruptedRun,
    MissingError,
)
from edgepeft.guidance import FREE, Grammar
from edgepeft.pipeline.build import BuildResult
from edgepeft.runtime import (
    BatchRuntime,
    Completion,
    Encoder,
    Runtime,
    SamplingParams,
    Score,
    TokenLogprob,
)

__all__ = [
    "FREE",
    "BatchRuntime",
    "BuildResult",
    "Completion",
    "EdgepeftError",
    "Encoder",
    "GateError",
    "Grammar",
    "InputError",
    "InterruptedRun",
    "MissingError",
    "RecipeLike",
    "Runtime",
    "SamplingParams",
    "Score",
    "TokenLogprob",
    "build",
    "compare",
    "plan",
]
