"""Tiny encoders from a base to measured bundles: ``python -m tests.encoders.chain FOLDER``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.models.scoring import Scoring
from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING, MULTI_LABEL, RANKING, TAGGING
from tests.quantize_settings import UNSAID
from tests.stages import carry_cases, run_stage
from tests.tiny_encoders import (
    FAMILIES,
    LABELS,
    SEVERAL,
    TAGS,
    write_encoder_data,
    write_sentence_files,
    write_tiny_classifier,
    write_tiny_encoder,
)

DATA: dict[str, Any] = {"shape": "auto", "columns": {}, "system": None, "template": "auto"}
ROWS = 12


@dataclass(frozen=True)
class Case:
    """An encoder, its task, how it is trained, and what it is built for."""

    family: str
    task: str
    method: str = "lora"
    targets: tuple[str, ...] = ("cpu-fp32",)
    head: str = ""
    algorithm: str = "rtn"
    paired: bool = False
    scoring: Scoring | None = None
    modules: tuple[str, ...] = ()

    @property
    def labels(self) -> list[str]:
        """The names of the outputs."""
        names: dict[str, tuple[str, ...]]
        names = {CLASSIFICATION: LABELS, TAGGING: TAGS, MULTI_LABEL: SEVERAL}
        return list(names.get(self.task, ()))


# Left out are those whose graph differs in nothing from another case's.
_LEFT_OUT = (
    ("minilm", TAGGING),
    ("bert", EMBEDDING),
    ("bert", CLASSIFICATION),
    ("roberta", EMBEDDING),
)
CASES: dict[str, Case] = {
    **{
        f"{family}-{task}": Case(family, task)
        for family in FAMILIES
        for task in (CLASSIFICATION, TAGGING, EMBEDDING)
        if (family, task) not in _LEFT_OUT
    },
    f"minilm-{CLASSIFICATION}": Case(
        "minilm", CLASSIFICATION, "qlora", ("cpu-fp32", "cpu-int4", "webgpu-int4-fp32")
    ),
    f"bert-{TAGGING}": Case("bert", TAGGING, "qlora", ("cpu-fp32", "cpu-int4")),
    f"roberta-{CLASSIFICATION}": Case(
        "roberta", CLASSIFICATION, targets=("cpu-fp32", "cpu-int4", "cuda-fp16"), algorithm="gptq"
    ),
    f"modernbert-{TAGGING}": Case(
        "modernbert", TAGGING, targets=("cpu-fp32", "cpu-int4"), algorithm="gptq"
    ),
    f"modernbert-{EMBEDDING}": Case(
        "modernbert", EMBEDDING, "qlora", ("cpu-fp32", "cpu-int8", "cpu-int4")
    ),
    # Decoders whose head reads the last token: one that has it, and two that are given one.
    f"llama-{CLASSIFICATION}": Case(
        "llama", CLASSIFICATION, "qlora", ("cpu-fp32", "cpu-int4"), algorithm="gptq"
    ),
    f"qwen2-{CLASSIFICATION}": Case("qwen2", CLASSIFICATION, head="SequenceClassification"),
    f"qwen3-{CLASSIFICATION}": Case("qwen3", CLASSIFICATION, targets=("cpu-fp32", "cpu-int8")),
    "own-head": Case("bert", CLASSIFICATION, "dora", head="SequenceClassification"),
    "full": Case("minilm", EMBEDDING, "full"),
    # Two texts that are told apart, and two that aren't; several labels at once; one score.
    "pairs": Case("minilm", CLASSIFICATION, targets=("cpu-fp32", "cpu-int4"), paired=True),
    "untyped-pairs": Case("roberta", CLASSIFICATION, paired=True),
    "several": Case("roberta", MULTI_LABEL, targets=("cpu-fp32", "cpu-int4"), algorithm="gptq"),
    "ranker": Case(
        "bert", RANKING, "qlora", ("cpu-fp32", "cpu-int4"), paired=True, scoring=Scoring()
    ),
    "value-ranker": Case(
        "modernbert",
        RANKING,
        head="SequenceClassification",
        paired=True,
        scoring=Scoring("mse", "identity"),
    ),
    # Vectors of triples: the first token's, and a decoder's last one through linear layers.
    "triples": Case("minilm", EMBEDDING, paired=True, modules=("cls_token", "Dense")),
    "embedder": Case(
        "qwen3",
        EMBEDDING,
        targets=("cpu-fp32", "cpu-int4"),
        algorithm="gptq",
        modules=("lasttoken", "Dense", "Dense", "Normalize"),
    ),
    "decoder-ranker": Case("qwen3", RANKING, paired=True, scoring=Scoring("bce", "identity")),
}


def training_settings() -> dict[str, Any]:
    """A short training at a rate high enough to be seen; its last evaluation is on the reference's rows."""
    return {
        "objective": "supervised",
        "beta": 0.1,
        "max_steps": 6,
        "epochs": 1.0,
        "batch_size": ROWS,
        "gradient_accumulation": 1,
        "learning_rate": 0.01,
        "schedule": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "eval_steps": None,
        "eval_rows": ROWS,
        "save_steps": 100,
        "seed": 0,
        # The trainer's losses are held against the reference's, which multiplies in float32.
        "compute_dtype": "float32",
    }


def carry(case: Case, root: Path) -> None:
    """One case from a model to measured bundles; every stage's folder lies in ``root``."""
    from edgepeft.checkpoints import encoder_base
    from edgepeft.evaluation import encoders as fidelity
    from edgepeft.evaluation.execution import Execution
    from edgepeft.merging import stage as merge_stage
    from edgepeft.quantization import stage as quantize_stage
    from edgepeft.runtime.devices import CPU
    from edgepeft.targets import find_target
    from edgepeft.training import stage as train_stage
    from edgepeft_exporters.encoder import stage as export_stage

    labels = tuple(case.labels) or ("LABEL_0",) if case.head else ()
    if case.family in FAMILIES:
        model = write_tiny_encoder(root / "model", case.family, head=case.head, labels=labels)
    else:
        model = write_tiny_classifier(root / "model", case.family, labels)
    if case.modules:
        write_sentence_files(model, *case.modules)
    train, test = write_encoder_data(root / "data", case.task, paired=case.paired)
    task = {"task": case.task}
    settings: dict[str, Any] = {**task, "labels": case.labels, "scoring": case.scoring}
    settings["paired"] = case.paired and case.task != EMBEDDING
    base = run_stage(encoder_base.run, root / "base", settings, {"model": model})
    method: dict[str, Any] = {
        "name": case.method,
        "grid": "auto",
        "rank": None if case.method == "full" else 4,
        "alpha": None,
        "dropout": None,
        "target_modules": "all-linear",
        "options": {},
    }
    settings = {
        **task,
        "method": method,
        "training": {
            **training_settings(),
            **({"learning_rate": 0.002} if case.method == "full" else {}),
        },
        "data": {**DATA, "max_length": 64},
        "base_name": case.family,
    }
    inputs = {"base": base, "train": train, "test": test}
    trained = run_stage(train_stage.run, root / "train", settings, inputs)
    merge = {"merge": {"base": "dequantized", "grid": "auto"}}
    inputs = {"base": base, "train": trained}
    measured = {**task, **merge, "data": {**DATA, "max_test_rows": ROWS, "max_length": 64}}
    reference = run_stage(
        fidelity.reference, root / "reference", measured, {**inputs, "test": test}
    )
    merged = run_stage(merge_stage.run, root / "merge", merge, inputs)
    for target in map(find_target, case.targets):
        inputs = {"base": base, "merge": merged}
        if target.bits:
            settings = {
                **task,
                "quantize": {
                    **UNSAID,
                    "algorithm": case.algorithm,
                    "calibration": {"tokens": 256, "task_share": 0.5, "seed": 0},
                },
                "bits": target.bits,
                "data": DATA,
            }
            folder = root / f"quantize-{target.name}"
            rows = {"calibration_rows": train}
            inputs["quantize"] = run_stage(quantize_stage.run, folder, settings, {**inputs, **rows})
        settings = {
            "target": target.as_dict(),
            "accuracy_level": 0,
            "base_name": case.family,
            "layout": "all",
        }
        bundle = run_stage(export_stage.run, root / target.name, settings, inputs, kind="bundle")
        run_stage(
            fidelity.verify,
            root / f"verify-{target.name}",
            {"execution": Execution(target.provider, CPU).as_dict()},
            {"bundle": bundle, "reference": reference, "base": base},
        )


if __name__ == "__main__":
    chosen = sys.argv[2:] or list(CASES)
    carry_cases(carry, {name: CASES[name] for name in chosen}, Path(sys.argv[1]))
