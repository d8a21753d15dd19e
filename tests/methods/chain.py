"""Every method trained on a tiny model and taken to a verified bundle: ``python -m tests.methods.chain FOLDER``.

All in one process, because the graph builder must not be imported by the tests and starting one for each method
would take minutes. What fails leaves its error beside the others.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.stages import carry_cases, run_stage
from tests.tiny import COLOURS, write_tiny_data, write_tiny_model

DATA: dict[str, Any] = {
    "shape": "auto",
    "columns": {},
    "system": None,
    "template": "auto",
    "max_length": 256,
    "max_test_rows": 4,
}


USED = tuple(f"<answer {letter}>" for letter in sorted(COLOURS.values()))
"""Tokens that no tokenizer here knows; the colours' letters are written with them."""
NEW = (*USED, *(f"<spare {number}>" for number in range(8)))
"""With these there are more than the model has rows for."""


@dataclass(frozen=True)
class Case:
    """A method with its settings, the model it is trained on, and the grid of that model meanwhile."""

    name: str
    grid: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)
    rank: int | None = 4
    family: str = "llama"
    target_modules: Any = "all-linear"
    objective: str = "supervised"
    tied: bool | None = None
    targets: tuple[str, ...] = ("cpu-fp32",)
    # A lossless target wants rows of whole blocks of 64.
    intermediate: int = 160
    tokens: tuple[str, ...] = ()
    own_head: bool = False


CASES: dict[str, Case] = {
    "qlora": Case("qlora", targets=("cpu-fp32", "cpu-nf4"), intermediate=192),
    "lora": Case("lora"),
    "lora-qwen": Case("lora", family="qwen2"),
    "lora-gemma": Case("lora", family="gemma3"),
    "lora-phi": Case("lora", family="phi3"),
    "qlora-lfm2": Case("qlora", family="lfm2", targets=("cpu-fp32", "cpu-nf4"), intermediate=192),
    "lora-fp4": Case("lora", grid="fp4"),
    "lora-int8": Case("lora", grid="int8"),
    "rslora": Case("rslora"),
    "rslora-nf4": Case("rslora", grid="nf4"),
    "dora": Case("dora"),
    "dora-nf4": Case("dora", grid="nf4"),
    "dora-qwen": Case("dora", family="qwen2"),
    "patterns": Case(
        "lora", options={"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 8}}
    ),
    "pissa": Case("lora", options={"init_lora_weights": "pissa"}),
    "pissa-rslora": Case("rslora", options={"init_lora_weights": "pissa_niter_4"}),
    "pissa-nf4": Case(
        "lora",
        grid="nf4",
        options={"init_lora_weights": "pissa"},
        targets=("cpu-fp32", "cpu-nf4"),
        intermediate=192,
    ),
    "pissa-int8": Case("lora", grid="int8", options={"init_lora_weights": "pissa"}),
    "olora": Case("lora", options={"init_lora_weights": "olora"}),
    "olora-nf4": Case("lora", grid="nf4", options={"init_lora_weights": "olora"}),
    "loftq": Case("qlora", options={"init_lora_weights": "loftq"}),
    "adalora": Case("adalora", family="qwen2"),
    "adalora-nf4": Case("adalora", grid="nf4"),
    "loha": Case("loha"),
    "lokr": Case("lokr", family="qwen2"),
    "vera": Case("vera", rank=16),
    "vera-nf4": Case("vera", rank=16, grid="nf4", options={"save_projection": False}),
    "ia3": Case("ia3", rank=None, family="qwen2"),
    "ia3-nf4": Case("ia3", rank=None, grid="nf4"),
    "ia3-lfm2": Case("ia3", rank=None, family="lfm2"),
    "ln_tuning": Case("ln_tuning", rank=None, family="qwen3"),
    "ln_tuning-gemma": Case("ln_tuning", rank=None, family="gemma3"),
    "ln_tuning-nf4": Case("ln_tuning", rank=None, grid="nf4"),
    "tokens-tied": Case(
        "trainable_tokens", rank=None, options={"token_indices": [2, 70, 71]}, tied=True
    ),
    "tokens-untied": Case(
        "trainable_tokens", rank=None, options={"token_indices": [2, 70]}, family="qwen2"
    ),
    "lora-tokens": Case("lora", grid="nf4", options={"trainable_token_indices": [2, 70, 71]}),
    "new-tokens-tied": Case("qlora", tied=True, tokens=NEW),
    "new-tokens-untied": Case("trainable_tokens", rank=None, family="qwen2", tokens=NEW),
    "saved-untied": Case(
        "lora", family="qwen2", options={"modules_to_save": ["lm_head", "embed_tokens"]}
    ),
    "saved-tied": Case("qlora", tied=True, options={"modules_to_save": ["embed_tokens"]}),
    "tables-tied": Case(
        "qlora",
        tied=True,
        own_head=True,
        target_modules=["q_proj", "embed_tokens", "lm_head"],
        targets=("cpu-fp32", "cpu-nf4"),
        intermediate=192,
    ),
    "tables-untied": Case("dora", family="qwen2", target_modules=["q_proj", "embed_tokens"]),
    "tables-as-one": Case(
        "lora",
        tied=True,
        target_modules=["q_proj", "embed_tokens"],
        options={"ensure_weight_tying": True},
    ),
    "biases": Case("qlora", family="qwen2", options={"bias": "all"}),
    "biases-lora-only": Case("lora", family="qwen2", options={"bias": "lora_only"}),
    "lora-bias": Case(
        "lora",
        family="qwen2",
        target_modules=["q_proj", "v_proj"],
        options={"lora_bias": True},
    ),
    "parameters": Case(
        "lora", target_modules=["q_proj"], options={"target_parameters": ["down_proj.weight"]}
    ),
    "saved-norm": Case("dora", options={"modules_to_save": ["norm"]}),
    "full": Case("full", rank=None),
    "full-untied": Case("full", rank=None, family="qwen2"),
    "text": Case("qlora", objective="text"),
    "preference": Case("qlora", objective="preference"),
    "prompt": Case("prompt_tuning", rank=None, options={"num_virtual_tokens": 5}),
    "prompt-untied": Case(
        "prompt_tuning",
        rank=None,
        family="qwen2",
        options={
            "num_virtual_tokens": 4,
            "prompt_tuning_init": "TEXT",
            "prompt_tuning_init_text": "What is the colour of the sky?",
        },
    ),
    # One scales what it looks up, the other all that enters its layers.
    "prompt-gemma": Case("prompt_tuning", rank=None, family="gemma3"),
    "prompt-lfm2": Case("prompt_tuning", rank=None, family="lfm2"),
    "prompt-granite": Case("prompt_tuning", rank=None, family="granite"),
    "prompt-nf4": Case(
        "prompt_tuning",
        rank=None,
        grid="nf4",
        options={"prompt_tuning_init": "RANDOM"},
        targets=("cpu-fp32", "cpu-nf4"),
        intermediate=192,
    ),
    "p_tuning": Case("p_tuning", rank=None, options={"encoder_hidden_size": 32}),
    "p_tuning-int8": Case(
        "p_tuning",
        rank=None,
        grid="int8",
        family="qwen3",
        options={"encoder_reparameterization_type": "LSTM", "encoder_hidden_size": 16},
    ),
    "prefix": Case("prefix_tuning", rank=None, options={"num_virtual_tokens": 6}),
    "prefix-nf4": Case(
        "prefix_tuning",
        rank=None,
        grid="nf4",
        family="qwen2",
        options={"prefix_projection": True, "encoder_hidden_size": 16},
        targets=("cpu-fp32", "cpu-nf4"),
        intermediate=192,
    ),
    # Norms of keys, windows and two kinds of rotation; layers without rotation; one product for all three.
    "prefix-gemma": Case("prefix_tuning", rank=None, family="gemma3"),
    "prefix-smollm3": Case("prefix_tuning", rank=None, family="smollm3"),
    "prefix-phi": Case("prefix_tuning", rank=None, family="phi3"),
    "bottleneck": Case("bottleneck", rank=None, options={"bottleneck_size": 8}),
    "bottleneck-pfeiffer": Case(
        "bottleneck",
        rank=None,
        family="qwen2",
        options={"bottleneck_size": 12, "placement": "pfeiffer", "activation": "gelu"},
    ),
    # Norms between a sublayer and the residual stream.
    "bottleneck-gemma": Case(
        "bottleneck",
        rank=None,
        family="gemma2",
        options={"bottleneck_size": 8, "activation": "tanh"},
    ),
    "bottleneck-nf4": Case(
        "bottleneck",
        rank=None,
        grid="nf4",
        options={"bottleneck_size": 8, "activation": "silu"},
        targets=("cpu-fp32", "cpu-nf4"),
        intermediate=192,
    ),
    "bottleneck-int8": Case("bottleneck", rank=None, grid="int8", family="phi3"),
    "boft": Case("boft", rank=None, options={"boft_block_size": 4}),
    "oft": Case("oft", rank=None, options={"oft_block_size": 4}, family="qwen2"),
    "oft-nf4": Case("oft", rank=None, options={"oft_block_size": 4}, grid="nf4"),
    "hra": Case("hra"),
    "c3a": Case("c3a", rank=None, options={"block_size": 16}),
    "deft": Case("deft"),
    "delora": Case("delora"),
    "fourierft": Case("fourierft", rank=None, options={"n_frequency": 100}),
    "waveft": Case("waveft", rank=None, options={"n_frequency": 64}),
    "glora": Case("glora", family="qwen2"),
    "glora-llama": Case("glora"),
    "gralora": Case("gralora", options={"gralora_k": 2}),
    "hira": Case("hira"),
    "miss": Case("miss"),
    "pvera": Case("pvera", rank=16),
    "randlora": Case("randlora"),
    "road": Case("road", rank=None, options={"group_size": 16, "variant": "road_4"}),
    "supertuning": Case("supertuning", rank=None, options={"sparsity": 0.9}),
    "tinylora": Case("tinylora", rank=2),
    "vblora": Case("vblora", options={"vector_length": 16, "num_vectors": 32}),
    **{
        f"{name}-{grid}": Case(name, grid=grid, rank=rank, options=options)
        for name, rank, options in (
            ("c3a", None, {"block_size": 16}),
            ("fourierft", None, {"n_frequency": 100}),
            ("waveft", None, {"n_frequency": 64}),
            ("gralora", 4, {"gralora_k": 2}),
            ("hira", 4, {}),
            ("miss", 4, {}),
            ("pvera", 16, {}),
            ("randlora", 4, {}),
            ("road", None, {"group_size": 16}),
            ("vblora", 4, {"vector_length": 16, "num_vectors": 32}),
            ("oft", None, {"oft_block_size": 4}),
            ("vera", 16, {}),
            ("ia3", None, {}),
            ("ln_tuning", None, {}),
            ("adalora", 4, {}),
        )
        for grid in ("nf4", "int8")
    },
}


def method_settings(case: Case) -> dict[str, Any]:
    """The recipe's ``method`` section of a case."""
    return {
        "name": case.name,
        "grid": case.grid,
        "rank": case.rank,
        "alpha": None,
        "dropout": None,
        "target_modules": case.target_modules,
        "options": case.options,
    }


def training_settings(case: Case) -> dict[str, Any]:
    """A short training at a rate high enough to be seen."""
    return {
        "objective": case.objective,
        "beta": 0.1,
        "max_steps": 4,
        "epochs": 1.0,
        "batch_size": 4,
        "gradient_accumulation": 1,
        "learning_rate": 0.002 if case.name == "full" else 0.02,
        "schedule": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "eval_steps": None,
        # The rows that the reference is measured on, so that the two losses are of the same tokens.
        "eval_rows": 4,
        "save_steps": 100,
        "seed": 0,
        # The trainer's losses are held against the reference's, which multiplies in float32.
        "compute_dtype": "float32",
    }


def write_rows(folder: Path, objective: str) -> tuple[Path, Path]:
    """Training and test rows that an objective can learn from."""
    train, test = write_tiny_data(folder, rows=16)
    if objective != "supervised":
        rows = [json.loads(line) for line in train.read_text().splitlines()]
        changed = [
            {"text": f"{row['prompt']} {row['completion']}"}
            if objective == "text"
            else {"prompt": row["prompt"], "chosen": row["completion"], "rejected": "nothing"}
            for row in rows
        ]
        train.write_text("".join(json.dumps(row) + "\n" for row in changed))
    return train, test


def carry(case: Case, root: Path, model: Path) -> None:
    """One case from a model to measured bundles; every stage's folder lies in ``root``."""
    from edgepeft.checkpoints import base as base_stage
    from edgepeft.evaluation import reference as reference_stage
    from edgepeft.evaluation import verify as verify_stage
    from edgepeft.evaluation.execution import Execution
    from edgepeft.quantization import lossless as lossless_stage
    from edgepeft.runtime.devices import CPU
    from edgepeft.targets import find_target
    from edgepeft.training import stage as train_stage
    from edgepeft_exporters.decoder import stage as export_stage

    train, test = write_rows(root / "data", case.objective)
    generic = root / "data" / "generic.txt"
    generic.write_text("The quick brown fox jumps over the lazy dog. " * 6)
    tokens = list(case.tokens)
    for path in (train, test) if tokens else ():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        changed = [{**row, "completion": f"<answer {row['completion']}>"} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in changed))
    staged = {"tokens": tokens, "own_head": case.own_head}
    base = run_stage(base_stage.run, root / "base", staged, {"model": model})
    settings: dict[str, Any] = {
        "method": method_settings(case),
        "training": training_settings(case),
        "data": {**DATA, "tokens": tokens},
        "base_name": case.family,
    }
    inputs = {"base": base, "train": train, "test": test}
    trained = run_stage(train_stage.run, root / "train", settings, inputs)
    merge = {"merge": {"base": "dequantized", "grid": "auto"}}
    inputs = {"base": base, "train": trained, "test": test, "generic": generic}
    reference = run_stage(reference_stage.run, root / "reference", {**merge, "data": DATA}, inputs)
    for target in map(find_target, case.targets):
        settings = {
            **merge,
            "target": target.as_dict(),
            "accuracy_level": 0,
            "template": "auto",
            "base_name": case.family,
            "layout": "all",
        }
        inputs = {"base": base, "train": trained}
        if target.precision == "nf4":
            inputs["quantize"] = run_stage(lossless_stage.run, root / "codes", merge, inputs)
        bundle = run_stage(export_stage.run, root / target.name, settings, inputs, kind="bundle")
        run_stage(
            verify_stage.run,
            root / f"verify-{target.name}",
            {"execution": Execution(CPU, CPU).as_dict()},
            {"bundle": bundle, "reference": reference, "base": base},
        )


def main(root: Path, names: list[str]) -> None:
    """Carry the named cases, or all."""
    models: dict[tuple[Any, ...], Path] = {}

    def carried(case: Case, folder: Path) -> None:
        started = time.monotonic()
        key = (case.family, case.tied, case.intermediate)
        if key not in models:
            models[key] = write_tiny_model(
                root / "models" / "-".join(map(str, key)),
                case.family,
                tied=case.tied,
                intermediate=case.intermediate,
            )
        carry(case, folder, models[key])
        (folder / "seconds.txt").write_text(f"{time.monotonic() - started:.2f}\n")

    carry_cases(carried, {name: CASES[name] for name in names or CASES}, root)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
