"""How many threads this process should compute with: counted here and nowhere else.

Libraries count differently and mostly wrong: onnxruntime-genai takes half of the processors it sees, plain
onnxruntime and torch every physical core, and none of them looks at a control group's quota. The products of a
network fill a core with one thread, and wait for each other after every one, so a core's second hardware
thread, a slow core among fast ones, and a thread that the quota stops make all others wait.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")
_SLOW = 0.5
"""A core below this share of the fastest one's capacity is left out."""


@dataclass(frozen=True)
class Processors:
    """What a process may compute on.

    ``logical`` are the processors its affinity mask allows, ``cores`` the physical cores among them (of a hybrid
    processor the fast ones), ``quota`` the processors' worth of time its control groups grant, None for no limit.
    """

    logical: int
    cores: int
    quota: float | None

    @property
    def threads(self) -> int:
        """The number of threads to compute with."""
        return self.cores if self.quota is None else max(1, min(self.cores, int(self.quota)))


def processors(root: Path = _ROOT, allowed: Iterable[int] | None = None) -> Processors:
    """Count them. ``root`` is where /sys and /proc lie, ``allowed`` the affinity mask, by default this
    process's.
    """
    mask = _affinity() if allowed is None else set(allowed)
    if not mask:  # another system than Linux
        import psutil

        logical = os.cpu_count() or 1
        return Processors(logical, psutil.cpu_count(logical=False) or logical, None)
    cores = {_core(root, number) for number in _fast(root, mask)}
    return Processors(len(mask), len(cores), _quota(root))


def _affinity() -> set[int]:
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()


def _core(root: Path, number: int) -> str:
    """What the threads of one core have in common, and no two cores."""
    topology = root / f"sys/devices/system/cpu/cpu{number}/topology"
    return _read(topology / "thread_siblings_list") or str(number)


def _fast(root: Path, allowed: set[int]) -> set[int]:
    """Those of the allowed processors that are worth computing on; all where the kernel knows no difference."""
    # Intel's hybrid processors name their performance cores; Arm's say how much work each core does.
    performance = _numbers(_read(root / "sys/devices/cpu_core/cpus")) & allowed
    if performance:
        return performance
    capacities = {
        number: _read(root / f"sys/devices/system/cpu/cpu{number}/cpu_capacity")
        for number in allowed
    }
    known = {number: int(text) for number, text in capacities.items() if text.isdecimal()}
    if len(known) < len(allowed):
        return allowed
    return {number for number, value in known.items() if value >= _SLOW * max(known.values())}


def _numbers(text: str) -> set[int]:
    """The kernel's list of numbers, as in ``0-3,8``."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            found.update(range(int(first), int(last if last.isdecimal() else first) + 1))
    return found


def _quota(root: Path) -> float | None:
    """The smallest quota of this process's control groups, their parents' included; of either version."""
    quotas = []
    for folder in _control_groups(root):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:
            quota = _read(folder / "cpu.cfs_quota_us")
            period = _read(folder / "cpu.cfs_period_us")
        # Version 2 says "max" and version 1 a negative number where there is no limit.
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _control_groups(root: Path) -> Iterator[Path]:
    """The folders of the groups that this process's time is counted in, as they are mounted here."""
    paths = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "" or "cpu" in controllers.split(","):
            paths[controllers != ""] = path
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or len(kinds) < 3:
            continue
        first_version = kinds[0] == "cgroup" and "cpu" in kinds[2].split(",")
        if not (first_version or kinds[0] == "cgroup2") or first_version not in paths:
            continue
        # In a container the mount may begin at its own group, while the path counts from the top.
        top, path = fields[3].rstrip("/"), paths[first_version]
        inside = path.removeprefix(top) if path == top or path.startswith(top + "/") else ""
        folder = root / fields[4].lstrip("/")
        yield folder
        for part in filter(None, inside.split("/")):
            folder = folder / part
            if part == ".." or not folder.is_dir():
                break
            yield folder


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
