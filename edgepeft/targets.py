"""Device profiles and the exporters that serve them; both are entry points, so that plug-ins can add to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, Protocol

from edgepeft.errors import InputError, MissingError, unknown_name
from edgepeft.models import ModelInfo
from edgepeft.models.tasks import GENERATION, head_of

if TYPE_CHECKING:
    from edgepeft.config.target_sections import Quantize, Target

Precision = Literal["int4", "int8", "nf4", "bf16", "fp16", "fp32"]

GRID_KEYS = ("block_size", "symmetric", "head", "head_block_size")
"""Keys of ``quantize`` of which a target's kernels may take some values alone."""


@dataclass(frozen=True)
class TargetProfile:
    """A device to build for.

    ``precision`` is how linear weights are kept; ``io_dtype`` is what activations are. ``provider`` is the
    execution provider the bundle is meant for, ``verify_provider`` the one that runs the graph where the former
    is not to be had, ``builder_provider`` the graph builder's name for it. ``accuracy_level`` is the default for
    integer products. ``block_sizes``, ``symmetric`` and ``heads`` are the grids that the provider's kernels
    take, of which the first is taken where the recipe leaves the choice open. ``weight_layout`` is how integer
    weights enter the graph: as MatMulNBits, with GatherBlockQuantized or ONNX's own operators to look the
    embedding up, or as DequantizeLinear before a MatMul. ``graph_options`` go to the graph builder,
    ``session_options`` are onnxruntime's configuration entries for the runtime. ``file_stem`` names the graph,
    ``js_dtype`` is transformers.js' name for it (None: it has none). ``needs`` says what a machine must have to
    run it. ``ignored`` are keys of a model's configuration that the provider's kernels pass over: a model that
    sets one is refused.
    """

    name: str
    summary: str
    provider: str
    builder_provider: str
    precision: Precision
    io_dtype: Literal["fp32", "fp16", "bf16"]
    file_stem: str
    js_dtype: str | None
    needs: str
    accuracy_level: int = 0
    block_sizes: tuple[int, ...] = (16, 32, 64, 128)
    symmetric: tuple[bool, ...] = (False, True)
    heads: tuple[str, ...] = ("int8", "int4", "float")
    weight_layout: Literal["nbits", "nbits-gather", "qdq"] = "nbits"
    graph_options: Mapping[str, str] = field(default_factory=dict)
    session_options: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    verify_provider: str = "CPUExecutionProvider"
    exporter: str = "decoder"

    @property
    def bits(self) -> int | None:
        """Bits of an integer weight, or None for a floating-point target."""
        return {"int4": 4, "int8": 8}.get(self.precision)

    @property
    def quantized(self) -> bool:
        """Whether a quantize stage prepares this target's weights."""
        return self.bits is not None or self.precision == "nf4"

    def as_dict(self) -> dict[str, Any]:
        """JSON form, as it enters the export stage's settings and `edgepeft targets --json`."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TargetProfile:
        """Read back ``as_dict``."""
        fields: dict[str, Any] = {
            key: tuple(one) if isinstance(one, list) else one for key, one in value.items()
        }
        return cls(**fields)

    def grid(self, asked: Quantize, own: Mapping[str, Any]) -> Quantize:
        """How this target's weights are rounded: the recipe's ``quantize`` under the target's ``own`` settings.

        What the device's kernels don't take gives way where it is but a default. Raises InputError where the
        recipe asked for it.
        """
        chosen = asked.model_copy(update=dict(own))
        if not self.bits:
            return chosen
        limits: dict[str, tuple[Any, ...]] = {
            "block_size": self.block_sizes,
            "symmetric": self.symmetric,
            "head": self.heads,
        }
        for key, allowed in limits.items():
            value = getattr(chosen, key)
            if value in allowed:
                continue
            if key in own or value != type(asked).model_fields[key].default:
                raise self._refusal(key, value, allowed, own)
            chosen = chosen.model_copy(update={key: allowed[0]})
        blocks = chosen.head_blocks(self.bits)
        if chosen.head == "float" or blocks in self.block_sizes:
            return chosen
        if chosen.head_block_size is not None:
            raise self._refusal("head_block_size", blocks, self.block_sizes, own)
        return chosen.model_copy(update={"head_block_size": chosen.block_size})

    def _refusal(
        self, key: str, value: Any, allowed: tuple[Any, ...], own: Mapping[str, Any]
    ) -> InputError:
        where = f"targets: {self.name}: quantize.{key}" if key in own else f"quantize.{key}"
        choices = ", ".join(str(item).lower() for item in allowed)
        return InputError(
            f"{where}: {self.name} does not support {str(value).lower()}; choose one of {choices}"
        )


@dataclass(frozen=True)
class ProvenModel:
    """A family of models as it was held against transformers and PEFT, in so many configurations.

    ``difference`` is the largest of any logit in floating point; ``int4_kl`` the mean divergence that rounding to
    int4 brought the tiny models, in nats, None where it is not looked at. ``rotary`` are the scalings that were
    tried, ``runtimes`` those that computed the graph.
    """

    family: str
    configurations: int
    difference: float
    int4_kl: float | None = None
    rotary: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


class Exporter(Protocol):
    """What the core needs to know of an exporter; its work is a stage function imported where it runs."""

    name: str
    stage: str

    def refuses(self, model: ModelInfo) -> str | None:
        """Why this model can't be exported, in one line, or None if it can."""
        ...

    def proven(self) -> Sequence[ProvenModel]:
        """The families that it takes, with what was seen of each; nothing for those that keep no record."""
        return ()


@cache
def all_targets() -> Mapping[str, TargetProfile]:
    """Every registered target by name. Raises MissingError where the exporters aren't installed."""
    found: dict[str, TargetProfile] = {}
    for point in entry_points(group="edgepeft.targets"):
        for profile in point.load():
            found[profile.name] = profile
    if not found:
        raise MissingError("no targets are registered: reinstall edgepeft (pip install edgepeft)")
    return found


def find_target(name: str) -> TargetProfile:
    """A target by name. Raises InputError that lists the targets there are."""
    targets = all_targets()
    if name not in targets:
        raise unknown_name("targets", "target", name, targets)
    return targets[name]


def resolve_target(asked: Target) -> TargetProfile:
    """The profile of a recipe's target: a registered one, or the recipe's own device ``like`` another.

    Raises InputError for a name that is not known, or known already.
    """
    if asked.like is not None and asked.name in all_targets():
        raise InputError(
            f"targets: {asked.name}: is a built-in target; choose another name for the one like {asked.like}"
        )
    profile = find_target(asked.like or asked.name)
    if asked.accuracy_level is not None and not profile.bits:
        raise InputError(
            f"targets: {asked.name}: accuracy_level is for integer weights, and these are {profile.precision}"
        )
    changes: dict[str, Any] = {"name": asked.name}
    if asked.accuracy_level is not None:
        changes["accuracy_level"] = asked.accuracy_level
    changes["graph_options"] = {**profile.graph_options, **asked.graph_options}
    changes["session_options"] = {**profile.session_options, **asked.session_options}
    return replace(profile, **changes)


def all_exporters() -> list[Exporter]:
    """Every registered exporter."""
    names = {point.name for point in entry_points(group="edgepeft.exporters")}
    return [find_exporter(name) for name in sorted(names)]


@cache
def find_exporter(name: str) -> Exporter:
    """An exporter by name. Raises MissingError."""
    for point in entry_points(group="edgepeft.exporters", name=name):
        exporter: Exporter = point.load()
        return exporter
    raise MissingError(f"the exporter {name} is not registered: reinstall edgepeft")


def check_architecture(model: ModelInfo, targets: Sequence[TargetProfile], named: str) -> None:
    """Raise InputError for a model that no exporter takes, whatever the task; before rows are held against it."""
    refusals = {exporter.name: exporter.refuses(model) for exporter in all_exporters()}
    if not all(refusals.values()):
        return
    asked = "decoder" if head_of(model.architecture) == GENERATION else "encoder"
    own = {target.exporter for target in targets} - {"decoder", "encoder"}
    raise InputError(f"model: {named}: {refusals[next(iter(own), asked)]}")
