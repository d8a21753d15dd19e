"""Every kind of stage in the order of a build; plug-ins add theirs as entry points ``edgepeft.stages``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points

from edgepeft.errors import EdgepeftError
from edgepeft.pipeline.kinds.adapt import ADAPT
from edgepeft.pipeline.kinds.base import BASE
from edgepeft.pipeline.kinds.combine import COMBINE
from edgepeft.pipeline.kinds.export import EXPORT
from edgepeft.pipeline.kinds.float_graph import FLOAT_GRAPH
from edgepeft.pipeline.kinds.merge import MERGE
from edgepeft.pipeline.kinds.quantize import QUANTIZE
from edgepeft.pipeline.kinds.reference import REFERENCE
from edgepeft.pipeline.kinds.spec import StageSpec
from edgepeft.pipeline.kinds.train import TRAIN
from edgepeft.pipeline.kinds.verify import VERIFY
from edgepeft.pipeline.kinds.witness import WITNESS
from edgepeft.stages.needs import require_libraries

_BUILT_IN = (
    BASE,
    TRAIN,
    COMBINE,
    MERGE,
    QUANTIZE,
    EXPORT,
    ADAPT,
    WITNESS,
    FLOAT_GRAPH,
    REFERENCE,
    VERIFY,
)


@cache
def all_kinds() -> Mapping[str, StageSpec]:
    """Kinds of stages by name, in the order of a build. Raises EdgepeftError for a plug-in without a place."""
    order = list(_BUILT_IN)
    for point in entry_points(group="edgepeft.stages"):
        added: StageSpec = point.load()
        names = [spec.kind for spec in order]
        if added.kind in names or added.after not in names:
            raise EdgepeftError(
                f"{point.value}: the stage {added.kind} must have a name of its own, and come after one of "
                f"{', '.join(names)}"
            )
        order.insert(names.index(added.after) + 1, added)
    return {spec.kind: spec for spec in order}


def kinds_until(kind: str) -> list[StageSpec]:
    """The kinds of a build that stops at stages of ``kind``, and of those that belong behind it."""
    specs = list(all_kinds().values())
    last = [spec.kind for spec in specs].index(kind) + 1
    while last < len(specs) and specs[last].after:
        last += 1
    return specs[:last]


def require_kinds(kinds: Iterable[str], form: str = "") -> None:
    """Raise MissingError, naming what to install, unless all that these stages need in a form is there."""
    specs = [all_kinds()[kind] for kind in kinds]
    require_libraries(
        needs for spec in specs for needs in (spec.needs, spec.form_needs.get(form, {}))
    )
