"""A fleet on a real Dask cluster of two worker processes: the same bundles, whatever becomes of any process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgepeft.errors import EdgepeftError
from edgepeft.fleet import cluster as cluster_module
from edgepeft.fleet import remote
from edgepeft.fleet.cluster import ClusterCrew
from edgepeft.runs.folder import RunFolder
from tests.command import edgepeft, start
from tests.fleet.conftest import BuiltFleet, adapter_bytes, events_of, write_fleet
from tests.fleet.test_build import CELLS, wait_for

distributed = pytest.importorskip("distributed")

LONG = {"max_steps": 60, "batch_size": 4, "learning_rate": 0.005, "save_steps": 5}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        memory_limit="4GB",
        dashboard_address=":0",
        silence_logs=50,
    ) as found:
        yield found


def at_work(run: Path) -> list[psutil.Process]:
    """The stages' processes whose log lies in a run."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(Path(file.path).is_relative_to(run) for file in process.open_files()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_cluster_makes_what_this_machine_makes(
    cluster: Any, fleet: BuiltFleet, tmp_path: Path
) -> None:
    done = edgepeft(
        "build", fleet.recipe, "--out", tmp_path / "run", "--json", "--cluster",
        cluster.scheduler_address,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    result = json.loads(done.stdout)
    assert result["stages"] == fleet.result["stages"]
    states = {cell["cell"]: cell["state"] for cell in result["cells"]}
    assert states == {cell["cell"]: cell["state"] for cell in fleet.result["cells"]}
    for ours, theirs in zip(result["bundles"], fleet.result["bundles"], strict=True):
        assert ours["fidelity"]["task_kl"] == pytest.approx(
            theirs["fidelity"]["task_kl"], rel=0.02, abs=1e-6
        )
        assert Path(ours["path"]).is_relative_to(tmp_path / "run")
    events = events_of(tmp_path / "run")
    places = {event["place"] for event in events if event["event"] == "started"}
    assert len(places) == 2
    progress = [e for e in events if e["event"] == "progress" and e["stage"] == "acme/train"]
    assert progress[-1]["cells"] == CELLS[:2]
    assert not (tmp_path / "run" / ".beat").exists()
    again = edgepeft(
        "build", fleet.recipe, "--out", tmp_path / "run", "--only", "acme", "--cluster",
        cluster.scheduler_address,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "0 stages built, 11 reused" in again.stdout


def test_a_worker_that_is_lost_costs_its_task_one_more_attempt(
    cluster: Any, tmp_path: Path
) -> None:
    recipe = write_fleet(
        tmp_path, training=LONG, matrix={"training.seed": [0]}, targets=["cpu-fp32"]
    )
    arguments = ["train", recipe, "--out", tmp_path / "run", "--json", "--progress", "none"]
    process = start(*arguments, "--cluster", cluster.scheduler_address)
    wait_for("scratch/train-*/checkpoints/checkpoint-10/edgepeft-complete", tmp_path / "run")
    begun = [e for e in events_of(tmp_path / "run") if e["event"] == "started"]
    place = next(event["place"] for event in begun if event["stage"].endswith("train"))
    (worker,) = (one for one in cluster.workers.values() if one.worker_address == place)
    os.kill(worker.pid, signal.SIGKILL)
    said, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert json.loads(said)["cells"][0]["state"] == "done"
    events = events_of(tmp_path / "run")
    warned = [event for event in events if event["event"] == "warning"]
    assert any("is gone; trying once more" in event["text"] for event in warned)
    texts = [event.get("text", "") for event in events]
    assert any("resuming from training checkpoint" in text for text in texts)


def test_a_stopped_build_and_a_killed_one_are_gone_on_with(cluster: Any, tmp_path: Path) -> None:
    recipe = write_fleet(
        tmp_path, training=LONG, matrix={"training.seed": [0, 1]}, targets=["cpu-fp32"]
    )
    run = tmp_path / "run"
    arguments = ["train", recipe, "--out", run, "--json", "--cluster", cluster.scheduler_address]
    stopped = start(*arguments)
    wait_for("scratch/train-*/checkpoints/checkpoint-10/edgepeft-complete", run)
    stopped.send_signal(signal.SIGINT)
    _, errors = stopped.communicate(timeout=120)
    assert stopped.returncode == 130, errors
    assert json.loads((run / "run.json").read_text())["state"] == "interrupted"
    assert not at_work(run)

    killed = start(*arguments)
    wait_for("scratch/train-*/checkpoints/checkpoint-2*/edgepeft-complete", run)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    done = edgepeft(*arguments)
    assert done.returncode == 0, done.stderr
    # Tasks go on until another build takes the folder; on a fast machine they have come to their end by then.
    gone_on = done.stderr.count("resuming from training checkpoint")
    assert gone_on + done.stderr.count("/train  unchanged, reused") > 0, done.stderr
    first, second = json.loads(done.stdout)["cells"]
    assert adapter_bytes(first["adapter"]) != adapter_bytes(second["adapter"])
    assert not at_work(run)


def test_a_beat_that_says_stop_or_stays_away_ends_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgepeft.stages.pool import Workers

    monkeypatch.setattr(remote, "LOST_SECONDS", 1.0)
    path = tmp_path / ".beat"
    for beats in (
        [remote.Beat("ours", 1)],
        [remote.Beat("ours", 1, stop=1)],
        [remote.Beat("another")],
        [],
    ):
        path.unlink(missing_ok=True)
        for beat in beats:
            beat.write(path)
        workers = Workers()
        with remote.watched(workers, path, "ours"):
            deadline = time.monotonic() + 10
            while not workers.interrupted and time.monotonic() < deadline:
                time.sleep(0.05)
        assert workers.interrupted, beats
    # While beats come it goes on.
    monkeypatch.setattr(remote, "LOST_SECONDS", 2.0)
    workers = Workers()
    with remote.watched(workers, path, "ours"):
        for number in range(6):
            remote.Beat("ours", number).write(path)
            time.sleep(0.5)
        assert not workers.interrupted


def test_no_scheduler_no_workers_and_no_shared_files(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1)
    with pytest.raises(EdgepeftError, match="no Dask scheduler answers there"):
        ClusterCrew("tcp://127.0.0.1:9")
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, protocol="tcp://", dashboard_address=":0", silence_logs=50
        ) as empty,
        ClusterCrew(empty.scheduler_address) as crew,
        pytest.raises(EdgepeftError, match="has no workers"),
        crew.at(RunFolder(tmp_path)),
    ):
        pass
    assert remote.version(tmp_path / "elsewhere" / ".beat", "token")[1] is False
    monkeypatch.setattr(remote.Beat, "write", lambda beat, path: None)
    with (
        ClusterCrew(cluster.scheduler_address) as crew,
        pytest.raises(EdgepeftError, match="does not see"),
        crew.at(RunFolder(tmp_path)),
    ):
        pass


def test_without_its_extra_a_cluster_says_what_to_install(tmp_path: Path) -> None:
    recipe = write_fleet(tmp_path)
    code = (
        "import sys; sys.modules['distributed'] = None\n"
        f"sys.argv = ['edgepeft', 'build', {str(recipe)!r}, '--cluster', 'tcp://127.0.0.1:1']\n"
        "from edgepeft.cli.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == (
        "edgepeft: --cluster: dask.distributed is not installed: pip install 'edgepeft[cluster]'\n"
    )
