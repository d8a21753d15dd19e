"""A build reports to every tracker: curves and the bundle's figures in one run, read back from each."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgepeft.config.loader import load_recipe
from edgepeft.events import Event
from edgepeft.pipeline.build import BuildResult, build
from tests.conftest import ModelMaker
from tests.tiny import write_tiny_data

pytest.importorskip("trl")
STEPS = 4
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


@pytest.fixture(scope="module")
def reported(
    tiny_model: ModelMaker, tmp_path_factory: pytest.TempPathFactory
) -> tuple[BuildResult, list[Event], Path]:
    """A build that reports to all trackers, none of which goes beyond a folder."""
    folder = tmp_path_factory.mktemp("tracked")
    write_tiny_data(folder)
    recipe = {
        "model": str(tiny_model("llama")),
        "data": {"train": "train.jsonl", "test": "test.jsonl"},
        "method": {"name": "lora", "rank": 4},
        "training": {"max_steps": STEPS, "report_to": list(TRACKERS)},
        "targets": ["cpu-fp32"],
    }
    path = folder / "words.yaml"
    path.write_text(yaml.safe_dump(recipe))
    events: list[Event] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("MLFLOW_TRACKING_URI", (folder / "mlruns").as_uri())
        # The client alone, without MLflow's server and its database.
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("TRACKIO_DIR", str(folder / "trackio"))
        for name in ("TENSORBOARD_LOGGING_DIR", "WANDB_DIR", "WANDB_PROJECT", "TRACKIO_SPACE_ID"):
            patch.delenv(name, raising=False)
        result = build(load_recipe(path), folder / "run", sink=events.append)
        again = build(load_recipe(path), folder / "run")
    assert again.tracked == result.tracked
    return result, events, folder


def _losses(result: BuildResult) -> list[float]:
    """Each step's loss as the trainer itself wrote it down."""
    (history,) = result.run.glob("stages/train-*/history.json")
    return [entry["loss"] for entry in json.loads(history.read_text()) if "loss" in entry]


def _figures(result: BuildResult) -> dict[str, float]:
    """What the report has of the bundle that a tracker is told, by its name there."""
    (bundle,) = result.bundles
    names = ("task_kl", "generic_kl", "top1_agreement", "exact_match", "recovery")
    return {
        **{f"cpu-fp32/{name}": bundle["fidelity"][name] for name in names},
        "cpu-fp32/bytes": bundle["bytes"],
        "cpu-fp32/gates_passed": 1.0,
    }


def _tensorboard(folder: Path) -> tuple[list[float], dict[str, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (place,) = folder.glob("run/tracking/train-*/tensorboard")
    read = EventAccumulator(str(place)).Reload()
    tags = read.Tags()["scalars"]
    losses = [event.value for event in read.Scalars("train/loss")]
    return losses, {tag: read.Scalars(tag)[-1].value for tag in tags if "cpu" in tag}


def _mlflow(folder: Path) -> tuple[list[float], dict[str, float]]:
    """Its file store has a file a metric, a line a value: time, value, step."""
    (run,) = (path for path in folder.glob("mlruns/*/*/metrics"))
    read = {
        str(path.relative_to(run)): [
            float(line.split()[1]) for line in path.read_text().splitlines()
        ]
        for path in run.rglob("*")
        if path.is_file()
    }
    return read["loss"], {name: values[-1] for name, values in read.items() if "cpu" in name}


def _trackio(folder: Path) -> tuple[list[float], dict[str, float]]:
    with sqlite3.connect(folder / "trackio" / "edgepeft.db") as database:
        rows = database.execute("select run_name, metrics from metrics order by id").fetchall()
    assert len({name for name, _ in rows}) == 1
    logged = [json.loads(metrics) for _, metrics in rows]
    losses = [one["train/loss"] for one in logged if "train/loss" in one]
    return losses, next(one for one in logged if "cpu-fp32/task_kl" in one)


def _wandb(folder: Path) -> tuple[list[float], dict[str, float]]:
    from wandb.proto import wandb_internal_pb2

    files = sorted(folder.glob("run/tracking/train-*/wandb/offline-run-*/*.wandb"))
    assert len({file.name for file in files}) == 1  # of one id, a folder each time it was opened
    logged: list[dict[str, Any]] = []
    for data in (data for file in files for data in _records(file.read_bytes())):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            logged.append(
                {one.key or one.nested_key[0]: json.loads(one.value_json) for one in items}
            )
    losses = [one["train/loss"] for one in logged if "train/loss" in one]
    return losses, next(one for one in logged if "cpu-fp32/task_kl" in one)


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, 7 bytes of a header in front: each in one piece or several,
    none across the border of a block, behind 4 bytes of a checksum, 2 of the length and 1 of the kind.
    """
    block, at, record = 32768, 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


READERS: dict[str, Callable[[Path], tuple[list[float], dict[str, float]]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}


@pytest.mark.parametrize("tracker", TRACKERS)
def test_curves_and_figures_are_in_one_run(
    tracker: str, reported: tuple[BuildResult, list[Event], Path]
) -> None:
    result, events, folder = reported
    losses, figures = READERS[tracker](folder)
    assert losses == pytest.approx(_losses(result), rel=1e-5)
    assert len(losses) == STEPS
    expected = _figures(result)
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    # Where to look is said as soon as the training begins, and in the result.
    said = [event["text"] for event in events if event["event"] == "message"]
    assert sum(text.startswith(f"{tracker}: ") for text in said) == 1
    assert result.tracked[tracker]


def test_what_trackers_print_stays_in_the_logs(
    reported: tuple[BuildResult, list[Event], Path],
) -> None:
    result, events, _ = reported
    assert "wandb" in (result.run / "logs" / "report.log").read_text()
    assert not [
        event for event in events if event["event"] == "warning" and "sent" in event["text"]
    ]
