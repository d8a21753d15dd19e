"""The train stage: supervised fine-tuning of an adapter with TRL's SFTTrainer.

Rows arrive tokenized by the project's one prompt function, so the trainer, the verifier and the device agree on
every token. The base is loaded in float32 and, for QLoRA, rounded by bitsandbytes from there: what later stages
recompute from the checkpoint is then exactly what the adapter was trained against.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.data.formats import read_data
from edgepeft.data.prompt import Encoded, Prompter
from edgepeft.data.rows import Row
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.merging.provenance import Provenance, TrainingGrid
from edgepeft.stage import Job
from edgepeft.training.checkpoints import last_complete
from edgepeft.training.methods import TrainingMethod, find_method


def run(job: Job) -> dict[str, Any]:
    """Stage function. Inputs: ``base``, ``train`` and, for the evaluation loss, ``test``.

    The adapter's folder also says what it was trained on. Result: counts and seconds of optimizer steps.
    """
    import torch
    from transformers import AutoTokenizer, set_seed
    from trl import SFTConfig

    from edgepeft.training.callbacks import Reporter, StopRequest
    from edgepeft.training.trainer import CompletionTrainer

    stop = StopRequest()
    stop.listen()
    settings = job.settings
    training, data = settings["training"], settings["data"]
    method = find_method(settings["method"]["name"])
    set_seed(training["seed"])

    prompter = Prompter.from_folder(job.inputs["base"], job.template(data["template"]))
    rows = encode_rows(read_data(job.inputs["train"], data), prompter, data["max_length"])
    held_out: list[Encoded] = []
    if "test" in job.inputs and training["eval_rows"]:
        test = read_data(job.inputs["test"], data)[: training["eval_rows"]]
        held_out = encode_rows(test, prompter, data["max_length"])

    model = load_base_for_training(checkpoint_folder(job.inputs["base"]), method)
    quantized = quantized_weight_names(model)
    adapted = add_adapter(model, method, settings["method"])
    trainable = sum(p.numel() for p in adapted.parameters() if p.requires_grad)

    steps = step_count(training, len(rows))
    eval_steps = training["eval_steps"] or max(1, math.ceil(steps / 3))
    save_steps = training["save_steps"] or max(1, math.ceil(steps / 6))
    on_cuda = torch.cuda.is_available()
    job.scratch.mkdir(parents=True, exist_ok=True)
    config = SFTConfig(
        output_dir=str(job.scratch / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=training["batch_size"],
        per_device_eval_batch_size=training["batch_size"],
        gradient_accumulation_steps=training["gradient_accumulation"],
        learning_rate=training["learning_rate"],
        lr_scheduler_type=training["schedule"],
        warmup_steps=min(training["warmup_steps"], max(0, steps - 1)),
        weight_decay=training["weight_decay"],
        max_grad_norm=training["max_grad_norm"],
        seed=training["seed"],
        data_seed=training["seed"],
        bf16=on_cuda and torch.cuda.is_bf16_supported(),
        use_cpu=not on_cuda,
        gradient_checkpointing=False,
        logging_steps=1,
        eval_strategy="steps" if held_out else "no",
        eval_steps=eval_steps,
        save_strategy="steps",
        save_steps=save_steps,
        save_total_limit=2,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=on_cuda,
        disable_tqdm=True,
        report_to="none",
    )
    batch = training["batch_size"] * training["gradient_accumulation"]
    mean_tokens = sum(len(row.ids) for row in rows) / len(rows)
    reporter = Reporter(job.events, stop, mean_tokens * batch)
    trainer = CompletionTrainer(
        model=adapted,
        args=config,
        train_dataset=as_dataset(rows),
        eval_dataset=as_dataset(held_out) if held_out else None,
        processing_class=AutoTokenizer.from_pretrained(job.inputs["base"]),
        callbacks=[reporter],
    )
    # TRL rounds the adapter of a quantized base to bfloat16, in which small updates vanish.
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)

    resume = last_complete(job.scratch / "checkpoints")
    if resume is not None:
        job.events.message(f"going on from training checkpoint {resume.name.rpartition('-')[2]}")
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    seconds = time.monotonic() - started
    if stop.requested and trainer.state.global_step < steps:
        raise KeyboardInterrupt

    adapter = job.out / "adapter"
    adapted.save_pretrained(str(adapter), safe_serialization=True)
    provenance = Provenance(TrainingGrid(kind=method.grid), tuple(quantized), "edgepeft")
    provenance.write(adapter)
    _finish_adapter_folder(adapter, settings["base_name"])
    (job.out / "history.json").write_text(json.dumps(trainer.state.log_history, indent=1) + "\n")
    _refuse_divergence(trainer.state.log_history)
    shutil.rmtree(job.scratch, ignore_errors=True)
    return {
        "grid": method.grid,
        "steps": steps,
        "rows": len(rows),
        "trainable_parameters": trainable,
        "train_seconds": round(seconds, 2),
        "step_seconds": round(reporter.step_seconds, 2),
        "tokens_per_second": round(
            mean_tokens * batch * reporter.steps_run / max(reporter.step_seconds, 1e-9), 1
        ),
        "device": torch.cuda.get_device_name() if on_cuda else "cpu",
    }


def encode_rows(rows: Sequence[Row], prompter: Prompter, max_length: int) -> list[Encoded]:
    """Tokenize rows and cut them to ``max_length`` tokens; rows left without a learned token are dropped."""
    encoded = [prompter.row(row) for row in rows]
    cut = [Encoded(row.ids[:max_length], row.mask[:max_length]) for row in encoded]
    kept = [row for row in cut if any(row.mask)]
    if not kept:
        raise InputError(
            f"data.max_length: {max_length} leaves no token of any completion to learn"
        )
    return kept


def step_count(training: Mapping[str, Any], rows: int) -> int:
    """Optimizer steps of a training: ``max_steps``, or what ``epochs`` come to."""
    if training["max_steps"]:
        return int(training["max_steps"])
    per_step = int(training["batch_size"] * training["gradient_accumulation"])
    return max(1, math.ceil(math.ceil(rows / per_step) * float(training["epochs"])))


def as_dataset(rows: Sequence[Encoded]) -> Any:
    """A ``datasets.Dataset`` with ``input_ids`` and ``labels`` (-100 where nothing is learned)."""
    from datasets import Dataset

    return Dataset.from_list(
        [
            {
                "input_ids": row.ids,
                "labels": [i if m else -100 for i, m in zip(row.ids, row.mask, strict=True)],
            }
            for row in rows
        ]
    )


def load_base_for_training(folder: Path, method: TrainingMethod) -> Any:
    """The base model in float32, its linear layers on the method's grid, ready for an adapter."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options: dict[str, Any] = {"dtype": torch.float32, "trust_remote_code": False}
    if torch.cuda.is_available():
        options["device_map"] = {"": torch.cuda.current_device()}
    if method.grid != "none":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=method.grid,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32,
        )
    model = AutoModelForCausalLM.from_pretrained(folder, **options)
    model.config.use_cache = False
    for module in model.modules():
        # In its first evaluation on a CPU with AVX512-BF16 a 4-bit layer would repack its weights and
        # round their scales to bfloat16, and training would go on against another base.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def quantized_weight_names(model: Any) -> list[str]:
    """Names of the weights that bitsandbytes holds in 4 bits; every other weight is as in the checkpoint."""
    from bitsandbytes.nn import Linear4bit

    return [
        f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Linear4bit)
    ]


def add_adapter(model: Any, method: TrainingMethod, settings: Mapping[str, Any]) -> Any:
    """Wrap the base with a fresh adapter. Raises InputError where target_modules match nothing."""
    from peft import get_peft_model, prepare_model_for_kbit_training

    if method.grid != "none":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    try:
        return get_peft_model(model, method.peft_config(settings))
    except ValueError as error:
        raise InputError(f"method.target_modules: {' '.join(str(error).split())}") from None


def _finish_adapter_folder(adapter: Path, base_name: str) -> None:
    """PEFT notes the staged folder as the base; people and tools need the name the user knows."""
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base_name
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for card in adapter.glob("README.md"):
        card.unlink()


def _refuse_divergence(history: Sequence[Mapping[str, Any]]) -> None:
    losses = [entry["loss"] for entry in history if "loss" in entry]
    if losses and not math.isfinite(losses[-1]):
        raise EdgepeftError(
            "training diverged (the loss is not finite); lower training.learning_rate"
        )
