"""Threads are counted by physical cores, within the affinity mask and the quota of the control groups."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgepeft.errors import InputError
from edgepeft.utils.processors import Processors, processors
from edgepeft.utils.threads import STAGE_THREADS, chosen_threads, threads_of_stage


class Machine:
    """A made-up /sys and /proc."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def cores(self, *siblings: str) -> None:
        """Each core's processors, as the kernel lists them."""
        for listed in siblings:
            for number in listed.replace("-", ",").split(","):
                self.put(
                    f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list", listed
                )

    def count(self, *allowed: int) -> Processors:
        return processors(self.root, allowed)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_two_threads_of_a_core_count_once(machine: Machine) -> None:
    machine.cores("0,4", "1,5", "2,6", "3,7")
    assert machine.count(*range(8)) == Processors(8, 4, None)
    # The mask leaves two cores, of one of which a single thread.
    assert machine.count(0, 4, 5).threads == 2
    assert machine.count(3).threads == 1


def test_a_machine_without_hardware_threads(machine: Machine) -> None:
    machine.cores("0", "1")
    assert machine.count(0, 1) == Processors(2, 2, None)


def test_a_kernel_that_says_nothing(machine: Machine) -> None:
    assert machine.count(0, 1, 2) == Processors(3, 3, None)


def test_of_a_hybrid_processor_the_fast_cores_count(machine: Machine) -> None:
    """Intel: two performance cores of two threads, four efficiency cores."""
    machine.cores("0-1", "2-3", "4", "5", "6", "7")
    machine.put("sys/devices/cpu_core/cpus", "0-3")
    machine.put("sys/devices/cpu_atom/cpus", "4-7")
    assert machine.count(*range(8)).threads == 2
    # Where the mask leaves slow ones alone, those it is.
    assert machine.count(4, 5, 6).threads == 3
    assert machine.count(0, 4, 5).threads == 1


def test_of_arms_kinds_of_cores_the_slow_ones_are_left_out(machine: Machine) -> None:
    for number, capacity in enumerate((160, 160, 160, 160, 512, 512, 512, 1024)):
        machine.cores(str(number))
        machine.put(f"sys/devices/system/cpu/cpu{number}/cpu_capacity", str(capacity))
    assert machine.count(*range(8)).threads == 4
    assert machine.count(0, 1, 2).threads == 3


MOUNTS = {
    2: "25 30 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
    1: "33 32 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
}


@pytest.mark.parametrize(
    ("limit", "threads"),
    [
        ("max 100000", 4),
        ("200000 100000", 2),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("x y", 4),
        ("", 4),
    ],
)
def test_a_quota_of_version_2(machine: Machine, limit: str, threads: int) -> None:
    machine.cores("0", "1", "2", "3")
    machine.put("proc/self/cgroup", "0::/user.slice/job")
    machine.put("proc/self/mountinfo", MOUNTS[2])
    machine.put("sys/fs/cgroup/user.slice/job/cpu.max", limit)
    assert machine.count(0, 1, 2, 3).threads == threads


def test_a_parents_quota_counts_too(machine: Machine) -> None:
    machine.cores("0", "1", "2", "3")
    machine.put("proc/self/cgroup", "0::/outer/inner")
    machine.put("proc/self/mountinfo", MOUNTS[2])
    machine.put("sys/fs/cgroup/outer/inner/cpu.max", "max 100000")
    machine.put("sys/fs/cgroup/outer/cpu.max", "300000 100000")
    assert machine.count(0, 1, 2, 3) == Processors(4, 4, 3.0)
    assert machine.count(0, 1).threads == 2


@pytest.mark.parametrize(("quota", "threads"), [("-1", 4), ("250000", 2), ("100000", 1)])
def test_a_quota_of_version_1(machine: Machine, quota: str, threads: int) -> None:
    machine.cores("0", "1", "2", "3")
    machine.put("proc/self/cgroup", "4:memory:/elsewhere\n3:cpu,cpuacct:/docker/abc\n0::/")
    machine.put(
        "proc/self/mountinfo", f"{MOUNTS[1]}\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 c rw"
    )
    machine.put("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", quota)
    machine.put("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000")
    machine.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1")
    assert machine.count(0, 1, 2, 3).threads == threads


def test_a_container_whose_mount_begins_at_its_own_group(machine: Machine) -> None:
    machine.cores("0", "1", "2", "3")
    machine.put("proc/self/cgroup", "0::/docker/abc")
    machine.put(
        "proc/self/mountinfo", "25 30 0:24 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup ro"
    )
    machine.put("sys/fs/cgroup/cpu.max", "200000 100000")
    assert machine.count(0, 1, 2, 3).threads == 2


@pytest.mark.parametrize("name", ["proc/self/cgroup", "proc/self/mountinfo"])
def test_nonsense_in_proc_limits_nothing(machine: Machine, name: str) -> None:
    machine.put("proc/self/cgroup", "0::/a")
    machine.put("proc/self/mountinfo", MOUNTS[2])
    machine.put(name, "x\n::\n - \n1 2 3 - cgroup2\n0::/../../etc")
    assert machine.count(0, 1).threads == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_this_machine_is_counted_within_its_mask() -> None:
    here = processors()
    assert 1 <= here.threads <= here.cores <= here.logical == len(os.sched_getaffinity(0))
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
        "from edgepeft.utils.threads import chosen_threads; print(chosen_threads())"
    )
    env = {name: value for name, value in os.environ.items() if name != STAGE_THREADS}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    )
    assert done.stdout == "1\n"


def test_what_is_asked_for_comes_before_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STAGE_THREADS, raising=False)
    assert chosen_threads() == processors().threads
    assert chosen_threads(7) == 7
    monkeypatch.setenv(STAGE_THREADS, "3")
    assert (chosen_threads(), threads_of_stage(), chosen_threads(7)) == (3, 3, 7)


@pytest.mark.parametrize("said", ["0", "-1", "many", "2.5", "99999999"])
def test_a_number_that_can_not_be_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STAGE_THREADS, said)
    with pytest.raises(InputError, match=f"{STAGE_THREADS}: must be a whole number from 1"):
        chosen_threads()
    monkeypatch.delenv(STAGE_THREADS)
    if said.lstrip("-").isdecimal():
        with pytest.raises(InputError, match="threads: must be"):
            chosen_threads(int(said))
