"""How busy this machine is: processor and memory, and of an NVIDIA GPU what its driver's tool says."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from edgepeft.utils import nvidia
from edgepeft.utils.quantities import megabytes
from edgepeft_tui.plain_text import plain, plain_line
from edgepeft_tui.words import meter

_MIB = 1 << 20
_LEAST_BAR = 8
_OF_GPUS = ("utilization.gpu", "memory.used", "memory.total")


@dataclass(frozen=True)
class Gauge:
    """A share of something that is in use, from 0 to 1, and what that is in words."""

    name: str
    share: float
    words: str = ""


def read_gauges() -> list[Gauge]:
    """What is in use now; the processor since the last look. May take as long as the driver's tool does."""
    memory = psutil.virtual_memory()
    used = memory.total - memory.available
    found = [
        Gauge("cpu", psutil.cpu_percent() / 100),
        Gauge("memory", used / memory.total, f"{megabytes(used)} of {megabytes(memory.total)}"),
    ]
    rows = nvidia.query("gpu", *_OF_GPUS)
    for number, (busy, taken, total) in enumerate(rows):
        name = f"gpu {number}" if len(rows) > 1 else "gpu"
        # A GPU may not say how busy it is, as one that is cut into several doesn't.
        with contextlib.suppress(ValueError):
            found.append(Gauge(name, _number(busy) / 100))
        with contextlib.suppress(ValueError, ZeroDivisionError):
            held, there = _number(taken) * _MIB, _number(total) * _MIB
            said = f"{megabytes(held)} of {megabytes(there)}"
            found.append(Gauge(f"{name} memory", held / there, said))
    return found


def _number(text: str) -> float:
    """The number before a unit, as in "34 %" or "512 MiB"."""
    return float(text.split(" ")[0])


def gauges_markup(gauges: Sequence[Gauge], room: int) -> str:
    """A bar for each, in ``room`` cells."""
    width = max((len(gauge.name) for gauge in gauges), default=0)
    words = max((len(gauge.words) for gauge in gauges), default=0)
    # Where both have no room, the bar says more at a glance than the sizes do.
    spelled = room - width - words - 9 >= _LEAST_BAR
    cells = max(4, room - width - (words + 2 if spelled else 0) - 7)
    lines = []
    for gauge in gauges:
        said = f"  [$muted]{plain_line(gauge.words)}[/]" if spelled and gauge.words else ""
        lines.append(
            f"{plain(f'{gauge.name:<{width}}')} {meter(gauge.share, cells)} {100 * gauge.share:3.0f} %{said}"
        )
    return "\n".join(lines)


def gauges_line(gauges: Sequence[Gauge]) -> str:
    """The same in a few words, where there is no room for bars."""
    return "  ".join(f"{gauge.name} {100 * gauge.share:.0f} %" for gauge in gauges)
