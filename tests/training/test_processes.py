"""Training in several processes: the result of one, stopped and resumed as one, and none left behind."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import peft
import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from edgepeft.errors import InputError
from edgepeft.pipeline.costs import training_memory
from edgepeft.training.adalora import AdaLora
from edgepeft.training.settings import step_count
from tests.command import COMMAND, edgepeft, start, write_recipe
from tests.conftest import ModelMaker
from tests.fleet.test_build import wait_for
from tests.project import write_project
from tests.tiny import write_tiny_data
from tests.training.test_trainer import BATCH, adapted, trainer_of

TOGETHER: dict[str, Any] = {
    "max_steps": 10,
    "batch_size": 4,
    "learning_rate": 0.005,
    "eval_steps": 5,
    "save_steps": 4,
    "processes": 2,
    # Else differences of rounding would drown those that are looked for.
    "compute_dtype": "float32",
}
ALONE = {**TOGETHER, "batch_size": 8, "processes": 1}


def recipe_in(folder: Path, model: Path, **training: Any) -> Path:
    """A recipe of two processes, or as ``training`` says."""
    return write_recipe(
        folder / "r.yaml", model, write_tiny_data(folder), training={**TOGETHER, **training}
    )


def trained(done: subprocess.CompletedProcess[str]) -> dict[str, torch.Tensor]:
    """The adapter's tensors that a ``train --json`` made."""
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    return dict(load_file(Path(result["adapter"]) / "adapter_model.safetensors"))


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=2e-5)


@pytest.fixture(scope="module")
def alone(tiny_model: ModelMaker, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one process makes of the rows that two take together."""
    root = tmp_path_factory.mktemp("alone")
    recipe = recipe_in(root, tiny_model("llama"), **ALONE)
    return trained(edgepeft("train", recipe, "--out", root / "run", "--json"))


def test_two_processes_learn_what_one_learns_from_batches_twice_as_large(
    tiny_model: ModelMaker, tmp_path: Path, alone: dict[str, torch.Tensor]
) -> None:
    recipe = recipe_in(tmp_path, tiny_model("llama"))
    done = edgepeft("train", recipe, "--out", tmp_path / "run", "--json", "--progress", "jsonl")
    ours = trained(done)
    assert_same(ours, alone)
    # They moved: were nothing learned, any two would agree.
    assert max(float(t.abs().max()) for name, t in ours.items() if "lora_B" in name) > 0.01
    (stage,) = (tmp_path / "run" / "stages").glob("train-*")
    facts = json.loads((stage / "edgepeft.json").read_text())
    assert facts["result"]["processes"] == 2
    # The memory is that of the processes that trained, not of the one that started them.
    assert facts["peak_memory_bytes"] > 250e6
    events = [json.loads(line) for line in done.stderr.splitlines()]
    steps = [e["step"] for e in events if e["event"] == "progress" and "loss" in e["metrics"]]
    assert steps == sorted(steps)
    assert steps[-1] == 10
    assert not list((tmp_path / "run" / "scratch").glob("*/*"))


def test_ctrl_c_stops_all_and_the_same_command_goes_on(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    recipe = recipe_in(tmp_path, tiny_model("llama"), max_steps=120)
    process = start("train", recipe, "--out", tmp_path / "run", "--progress", "none")
    wait_for("scratch/train-*/checkpoints/checkpoint-4/edgepeft-complete", tmp_path / "run")
    children = psutil.Process(process.pid).children(recursive=True)
    assert sum("edgepeft.training.launched" in " ".join(c.cmdline()) for c in children) >= 2
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "run the same command to resume" in errors
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    whole = (tmp_path / "run").glob("scratch/train-*/checkpoints/*/edgepeft-complete")
    newest = max(whole, key=lambda path: path.stat().st_mtime)
    assert {path.name for path in newest.parent.glob("rng_state_*")} == {
        *("rng_state_0.pth", "rng_state_1.pth")
    }
    going_on = edgepeft("train", recipe, "--out", tmp_path / "run", "--json")
    assert "resuming from training checkpoint" in going_on.stderr
    calm = edgepeft("train", recipe, "--out", tmp_path / "calm", "--json")
    assert_same(trained(going_on), trained(calm))


def test_a_killed_build_leaves_no_process(tiny_model: ModelMaker, tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, tiny_model("llama"), max_steps=400)
    process = start("train", recipe, "--out", tmp_path / "run", "--progress", "none")
    wait_for("scratch/train-*/checkpoints/checkpoint-4", tmp_path / "run")
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_what_the_processes_meet_is_said_in_one_line(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    recipe = recipe_in(tmp_path, tiny_model("llama"))
    done = edgepeft(
        "train", recipe, "--out", tmp_path / "run", "--set", "method.target_modules=nothing.*",
        "--progress", "none",
    )  # fmt: skip
    assert done.returncode == 2
    assert "method.target_modules: " in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def of_two_hosts(folder: Path, model: Path) -> Path:
    """A recipe for two hosts that are this machine, one process on each."""
    config = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_CPU",
        "num_machines": 2,
        "machine_rank": 0,
        "main_process_ip": "127.0.0.1",
        "main_process_port": _free_port(),
        "num_processes": 2,
        "use_cpu": True,
    }
    (folder / "hosts.yaml").write_text(yaml.safe_dump(config))
    return recipe_in(folder, model, accelerate_config="hosts.yaml")


def command_for_the_second(said: IO[str]) -> list[str]:
    """What the first host says has to be started on the other."""
    for line in said:
        text = str(json.loads(line).get("text", ""))
        if "waiting for host 1 of 1" in text:
            return shlex.split(text.partition("start there: ")[2])
    raise AssertionError("it did not say what to start")


def test_ctrl_c_ends_the_wait_for_another_host(tiny_model: ModelMaker, tmp_path: Path) -> None:
    recipe = of_two_hosts(tmp_path, tiny_model("llama"))
    process = start("train", recipe, "--out", tmp_path / "run", "--progress", "jsonl")
    assert process.stderr is not None
    command_for_the_second(process.stderr)
    time.sleep(1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_two_hosts_train_what_one_does(
    tiny_model: ModelMaker, tmp_path: Path, alone: dict[str, torch.Tensor]
) -> None:
    """Each host has a launcher of its own; the second's command is the one that the first says."""
    recipe = of_two_hosts(tmp_path, tiny_model("llama"))
    first = subprocess.Popen(
        [
            *COMMAND,
            "train",
            str(recipe),
            "--out",
            str(tmp_path / "run"),
            "--json",
            "--progress",
            "jsonl",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert first.stderr is not None
    assert first.stdout is not None
    command = command_for_the_second(first.stderr)
    rest = threading.Thread(target=first.stderr.read)
    rest.start()
    second = subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    said = first.stdout.read()
    assert first.wait(timeout=240) == 0, said
    rest.join()
    assert second.returncode == 0, second.stderr
    adapter = Path(json.loads(said)["adapter"]) / "adapter_model.safetensors"
    assert_same(dict(load_file(adapter)), alone)


@pytest.mark.parametrize(
    ("config", "processes", "message"),
    [
        (
            "num_machines: 2\nmain_process_ip: a\nmain_process_port: 1",
            3,
            "3 can't be shared evenly by 2 hosts",
        ),
        (
            "num_machines: 2\nmain_process_ip: a\nmain_process_port: 1",
            1,
            "1 can't be shared evenly by 2 hosts",
        ),
        ("num_machines: 2", 2, "need main_process_ip and main_process_port"),
        ("distributed_type: FSDP", 2, "distributed_type FSDP shards the model"),
        ("num_machines: none", 2, "num_machines: must be a positive number"),
        ("- a", 2, "not a file of `accelerate config`"),
        ("a: [", 2, "not valid YAML"),
        (None, 2, "no such file"),
    ],
)
def test_hosts_that_make_no_sense_are_refused_before_anything_starts(
    tiny_model: ModelMaker, tmp_path: Path, config: str | None, processes: int, message: str
) -> None:
    project = write_project(tiny_model("llama"), tmp_path)
    if config is not None:
        (tmp_path / "hosts.yaml").write_text(config)
    options = ["training.accelerate_config=hosts.yaml", f"training.processes={processes}"]
    with pytest.raises(InputError) as caught:
        project.plan(*options)
    assert message in str(caught.value)


def test_processes_count_in_steps_memory_and_key_and_hosts_do_not(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    project = write_project(tiny_model("llama"), tmp_path)
    one, two = project.plan(), project.plan("training.processes=2")
    rows = len(one.resolved.train_rows)
    counts = [step_count(plan.resolved.recipe.training, rows) for plan in (one, two)]
    assert counts[0] == 2 * counts[1]
    memory = [training_memory(plan.resolved) for plan in (one, two)]
    assert sum(memory[1].values()) == 2 * sum(memory[0].values())
    assert one.stage("train").key != two.stage("train").key
    assert project.plan("training.processes=1").stage("train").key == one.stage("train").key
    (tmp_path / "hosts.yaml").write_text(
        "{num_machines: 2, main_process_ip: a, main_process_port: 1}"
    )
    apart = project.plan("training.processes=2", "training.accelerate_config=hosts.yaml")
    assert apart.stage("train").key == two.stage("train").key
    assert training_memory(apart.resolved) == memory[0]


def test_adaloras_penalty_is_not_multiplied_by_processes(
    tiny_model: ModelMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients are averaged: what each process adds whole must stay as it is."""
    folder = tiny_model("llama")
    config = peft.AdaLoraConfig(
        init_r=4, target_r=2, total_step=10, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    trainer = trainer_of(adapted(folder, config), folder, tmp_path)
    trainer.model.train()
    count = torch.tensor(5)

    def loss() -> float:
        return float(trainer.compute_loss(trainer.model, dict(BATCH), num_items_in_batch=count))

    with torch.no_grad():
        one = loss()
        monkeypatch.setattr(type(trainer.accelerator), "num_processes", 2)
        two = loss()
        penalty = float(AdaLora().penalty(trainer.model))
    assert penalty > 0.1
    assert two - penalty == pytest.approx(2 * (one - penalty), rel=1e-5)
