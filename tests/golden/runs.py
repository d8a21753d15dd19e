"""The builds whose stages are compared with recorded outputs: a few tiny models, every kind of stage.

Weights are whole numbers from NumPy's integer generator over a power of two: the same bits on every processor,
where torch's normal distribution differs in its last ones. So what a stage computes is all that may differ.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from edgepeft.config.loader import load_recipe
from edgepeft.pipeline import build as pipeline
from edgepeft.stages.pool import Workers
from tests.stages import write_adapter
from tests.tiny import CORPUS, write_tiny_data, write_tiny_model
from tests.tiny_encoders import write_encoder_data, write_tiny_encoder

_STEP = 2.0**-22
_QUANTIZE = {"calibration": {"tokens": 64, "text": "generic.txt"}}
_TRAINED = {
    "method": {"rank": 4},
    "training": {
        "max_steps": 3,
        "batch_size": 4,
        "learning_rate": 0.01,
        "save_steps": 100,
        # Recorded on one machine and held on others, which may multiply in another type by themselves.
        "compute_dtype": "float32",
    },
}
_ROWS = {
    "train": "data/train.jsonl",
    "test": "data/test.jsonl",
    "generic": "generic.txt",
    "max_test_rows": 4,
}
_DECODER = {"model": "model", "data": _ROWS, "quantize": _QUANTIZE}

RUNS: Mapping[str, tuple[dict[str, Any], str]] = {
    "trained": ({"model": "model", "data": _ROWS, **_TRAINED}, "train"),
    # An adapter that exists leads to the stages that follow: the noise of training and combining is not theirs.
    "decoder": (
        {
            **_DECODER,
            "adapter": "one",
            "targets": [
                "cpu-int4",
                "cpu-nf4",
                {"name": "swap", "like": "cpu-fp32", "adapters": "hot-swap", "adapter_rank": 8},
            ],
        },
        "verify",
    ),
    "rounded": (
        {
            **_DECODER,
            "adapter": "one",
            "targets": [
                "cpu-int8",
                {"name": "k-quant", "like": "cpu-int4", "quantize": {"algorithm": "k_quant"}},
                {
                    "name": "rtn",
                    "like": "cpu-int4",
                    "quantize": {"algorithm": "rtn", "symmetric": True},
                },
            ],
        },
        "quantize",
    ),
    "combined": (
        {**_DECODER, "adapter": [{"path": "one"}, {"path": "two", "weight": 0.5}]},
        "combine",
    ),
    "fitted": (
        {
            **_DECODER,
            "adapter": [
                {"path": "one", "rows": "data/train.jsonl"},
                {"path": "two", "weight": 0.5, "rows": "data/test.jsonl"},
            ],
            "combine": {"method": "regmean", "rows": 4},
        },
        "combine",
    ),
    "encoder": (
        {
            "model": "encoder",
            "data": {"train": "texts/train.jsonl", "test": "texts/test.jsonl"},
            **_TRAINED,
            "quantize": _QUANTIZE,
            "targets": ["cpu-int4"],
        },
        "verify",
    ),
}
"""Recipes by name, and the kind of stage that each is carried out up to."""


@contextlib.contextmanager
def carrier(root: Path) -> Iterator[Callable[[str], Path]]:
    """Write models, adapters and rows into ``root``; gives what carries out a run by name, to its folder."""
    # Blocks of 64 must fit into rows, for the lossless target.
    _whole(write_tiny_model(root / "model", "llama", intermediate=192), 0)
    _whole(write_adapter(root / "model", root / "one", r=4), 1)
    few = ["q_proj", "down_proj"]
    _whole(write_adapter(root / "model", root / "two", r=2, target_modules=few), 2)
    _whole(write_tiny_encoder(root / "encoder", "minilm"), 3)
    (root / "generic.txt").write_text("\n\n".join(CORPUS * 2), encoding="utf-8")
    write_tiny_data(root / "data", rows=16)
    write_encoder_data(root / "texts", "text-classification", rows=12)
    with pytest.MonkeyPatch.context() as patch, Workers() as workers:
        # A graphics card rounds otherwise, and what was recorded came from a processor.
        patch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", "")
        # Loading the libraries takes longer than the stages do, so the builds share the process that has them.
        patch.setattr(pipeline, "Workers", lambda: contextlib.nullcontext(workers))

        def carry_out(name: str) -> Path:
            recipe, until = RUNS[name]
            path = root / f"{name}.yaml"
            path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
            return pipeline.build(load_recipe(path), root / "runs" / name, until=until).run

        yield carry_out


def _whole(folder: Path, seed: int) -> None:
    """Put reproducible weights into a checkpoint or adapter: norms around one, the rest around zero."""
    generator = np.random.default_rng(seed)
    for file in sorted(folder.glob("*.safetensors")):
        tensors = load_file(file)
        for name, tensor in sorted(tensors.items()):
            steps = generator.integers(-(2**19), 2**19, tensor.shape)
            centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            tensors[name] = (centre + steps * _STEP).astype(np.float32)
        save_file(tensors, file, metadata={"format": "pt"})
