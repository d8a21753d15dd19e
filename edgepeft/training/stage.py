"""The train stage: an adapter (or the whole model) trained with TRL, on the base that later stages recompute.

The base is loaded in float32 and, for a quantized one, rounded by bitsandbytes from there: what later stages
recompute from the checkpoint is then exactly what the adapter was trained against.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepeft.adapters.base_init import changes_base
from edgepeft.adapters.method import TrainingMethod
from edgepeft.adapters.methods import find_method
from edgepeft.adapters.provenance import Provenance, TrainingGrid
from edgepeft.checkpoints.base import checkpoint_folder, open_base
from edgepeft.checkpoints.base_stage import EncoderFacts, base_facts
from edgepeft.checkpoints.fingerprint import fingerprint
from edgepeft.checkpoints.skeleton import build_skeleton
from edgepeft.config.sections import Method
from edgepeft.data.prompt import Prompter
from edgepeft.errors import EdgepeftError
from edgepeft.merging.settings import FrozenBase, on_stored_grid
from edgepeft.models.tasks import GENERATION
from edgepeft.stages.job import Job
from edgepeft.tracking.runs import OpenRuns, open_runs
from edgepeft.training.arguments import trainer_arguments
from edgepeft.training.checkpoints import last_complete
from edgepeft.training.hooks import hooks_of
from edgepeft.training.loading import (
    Start,
    add_adapter,
    kept_whole,
    load_base_for_training,
    off_grid,
    quantized_weight_names,
    read_config,
    take_start,
)
from edgepeft.training.objectives import (
    encode_pairs,
    encode_rows,
    encode_texts,
    make_trainer,
    token_count,
)
from edgepeft.training.precision import compute_dtype, ease
from edgepeft.training.ranks import ALONE, Ranks
from edgepeft.training.saving import load_start, save_start, save_trained
from edgepeft.training.settings import TrainResult, TrainSettings, step_count

if TYPE_CHECKING:
    from edgepeft.training.callbacks import StopRequest


def run(job: Job[TrainSettings]) -> TrainResult:
    """Stage function. Inputs: ``base``, ``train`` and, for the evaluation loss, ``test``.

    The adapter's folder also says what it was trained on.
    """
    if job.settings.training.processes > 1:
        from edgepeft.training.launching import launch

        return launch(job)
    from edgepeft.training.callbacks import StopRequest

    stop = StopRequest()
    stop.listen()
    result = train(job, stop, ALONE)
    shutil.rmtree(job.scratch, ignore_errors=True)
    return result


def train(job: Job[TrainSettings], stop: StopRequest, ranks: Ranks) -> TrainResult:
    """Train in this process, which is one of ``ranks``; the first of them reports and writes what is kept.

    Raises KeyboardInterrupt once ``stop`` has been obeyed, with a whole checkpoint in the job's scratch folder.
    """
    settings = job.settings
    resume = last_complete(job.scratch / "checkpoints")
    trackers = settings.training.report_to if ranks.first else []
    # Variants of a recipe that share this training share its run, too.
    folder = Path(settings.tracking) / job.scratch.name
    # Opened before the base is loaded, so that one that nobody is logged in to costs no waiting.
    with open_runs(trackers, settings.run_name, folder, job.events, anew=resume is None) as runs:
        return _train(job, stop, ranks, resume, runs)


def _train(
    job: Job[TrainSettings], stop: StopRequest, ranks: Ranks, resume: Path | None, runs: OpenRuns
) -> TrainResult:
    import torch
    from transformers import set_seed

    from edgepeft.training.callbacks import PromptState, Reporter

    settings = job.settings
    training = settings.training
    method = find_method(settings.method.name)
    chosen = FrozenBase(grid=TrainingGrid(method.chosen_grid(settings.method)))
    frozen = on_stored_grid(base_facts(job.inputs["base"]), chosen)
    grid = frozen.grid
    set_seed(training.seed)

    encodes = settings.task != GENERATION
    rows, held_out = _encoded_texts(job) if encodes else _encoded(job)
    steps = step_count(training, len(rows))
    facts = EncoderFacts.read(job.inputs["base"]) if encodes else None
    folder = checkpoint_folder(job.inputs["base"])
    whole = () if facts is None else kept_whole(build_skeleton(folder), facts)
    if frozen.quantized is not None:
        whole = off_grid(build_skeleton(folder), frozen.quantized)
    compute = compute_dtype(training.compute_dtype, str(read_config(folder).get("model_type")))
    model = load_base_for_training(folder, grid, compute, whole)
    quantized = quantized_weight_names(model)
    adapted = add_adapter(model, method, _method_settings(job, method), grid, steps, facts)
    job.scratch.mkdir(parents=True, exist_ok=True)
    start = _start(job, adapted, method, grid, ranks)
    ease(adapted, compute, max(map(token_count, rows)))
    trainable = sum(p.numel() for p in adapted.parameters() if p.requires_grad)

    batch = training.batch_size * training.gradient_accumulation * ranks.size
    mean_tokens = sum(map(token_count, rows)) / len(rows)
    reporter = Reporter(job.events, stop, mean_tokens * batch, ranks)
    # What keeps a method's own state goes before the reporter, which says that a checkpoint is whole.
    callbacks: list[Any] = [*hooks_of(adapted).callbacks(adapted), reporter]
    if method.carried in ("tokens", "prefix"):
        callbacks.insert(0, PromptState(adapted))
    if training.report_to and ranks.first:
        from edgepeft.tracking.callback import TrackingCallback

        callbacks.append(TrackingCallback(runs))
    arguments = trainer_arguments(job, steps, compute, evaluate=bool(held_out))
    trainer = _trainer(job, facts, adapted, rows, held_out, arguments, callbacks)
    # TRL rounds the adapter of a quantized base to bfloat16, in which small updates vanish.
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)

    if resume is not None:
        job.events.message(f"resuming from training checkpoint {resume.name.rpartition('-')[2]}")
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    seconds = time.monotonic() - started
    if stop.requested and trainer.state.global_step < steps:
        raise KeyboardInterrupt

    _refuse_divergence(trainer.state.log_history)
    if ranks.first:
        base_name = settings.base_name
        record = {"name": base_name, "fingerprint": fingerprint(open_base(job.inputs["base"]))}
        provenance = Provenance(grid, tuple(quantized), "edgepeft", method.name, record)
        save_trained(adapted, job.out / "adapter", provenance, base_name, start)
        history = json.dumps(trainer.state.log_history, indent=1)
        (job.out / "history.json").write_text(history + "\n")
    # Nobody leaves while another still writes.
    ranks.wait()
    return TrainResult(
        method=method.name,
        grid=grid.kind,
        compute_dtype=str(compute).removeprefix("torch."),
        objective=training.objective,
        steps=steps,
        rows=len(rows),
        processes=ranks.size,
        trainable_parameters=trainable,
        train_seconds=round(seconds, 2),
        step_seconds=round(reporter.step_seconds, 2),
        tokens_per_second=round(
            mean_tokens * batch * reporter.steps_run / max(reporter.step_seconds, 1e-9), 1
        ),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    )


def _method_settings(job: Job[TrainSettings], method: TrainingMethod) -> Method:
    """The method's settings, with the rows of new tokens among what trains unless the recipe says which do."""
    from tokenizers import Tokenizer

    settings, tokens = job.settings.method, job.settings.data.tokens
    options = dict(settings.options)
    key = "token_indices" if method.modules == "embedding" else "trainable_token_indices"
    if (
        tokens
        and key in method.options
        and "embed_tokens" not in options.get("modules_to_save", [])
    ):
        tokenizer = Tokenizer.from_file(str(job.inputs["base"] / "tokenizer.json"))
        found = map(tokenizer.token_to_id, tokens)
        options.setdefault(key, sorted({token for token in found if token is not None}))
    if options.get("prompt_tuning_init") == "TEXT":
        # PEFT reads the text with the base's own tokenizer.
        options["tokenizer_name_or_path"] = str(job.inputs["base"])
    return settings.model_copy(update={"options": options})


def _trainer(
    job: Job[TrainSettings],
    facts: EncoderFacts | None,
    adapted: Any,
    rows: list[Any],
    held_out: list[Any],
    arguments: dict[str, Any],
    callbacks: list[Any],
) -> Any:
    """The trainer of an objective, or of an encoder's task."""
    from transformers import AutoTokenizer

    training, data = job.settings.training, job.settings.data
    parts = {
        "processing_class": AutoTokenizer.from_pretrained(job.inputs["base"]),
        "callbacks": callbacks,
    }
    if facts is not None:
        from edgepeft.metrics.encoder_examples import open_encoder
        from edgepeft.training.encoders import make_encoder_trainer

        encoder = open_encoder(job.inputs["base"], data.control_tokens, data.max_length)
        base = job.inputs["base"]
        return make_encoder_trainer(
            facts, base, encoder, adapted, rows, held_out, arguments, **parts
        )
    return make_trainer(
        training.objective, adapted, rows, held_out, arguments, training.beta, **parts
    )


def _encoded_texts(job: Job[TrainSettings]) -> tuple[list[Any], list[Any]]:
    """Training examples of an encoder and those of its evaluation loss."""
    from edgepeft.training.encoders import encode_job

    return encode_job(job)


def _encoded(job: Job[TrainSettings]) -> tuple[list[Any], list[Any]]:
    """Training rows and those of the evaluation loss, as the objective learns them."""
    training, data = job.settings.training, job.settings.data
    encode: Any = {"text": encode_texts, "preference": encode_pairs}.get(
        training.objective, encode_rows
    )
    prompter = Prompter.from_folder(
        job.inputs["base"], job.template(data.template), data.control_tokens
    )
    rows = encode(data.train_rows(job.inputs["train"]), prompter, data.max_length)
    held_out: list[Any] = []
    if "test" in job.inputs and training.eval_rows:
        test = data.test_rows(job.inputs["test"])[: training.eval_rows]
        # Test rows say what the answer is, and may lack the rejected one or be no plain text.
        fits = {
            "preference": all(row.rejected is not None for row in test),
            "text": all(row.messages is None for row in test),
        }
        if fits.get(training.objective, True):
            held_out = encode(test, prompter, data.max_length)
    return rows, held_out


def _start(
    job: Job[TrainSettings], adapted: Any, method: TrainingMethod, grid: TrainingGrid, ranks: Ranks
) -> Start | None:
    """The start taken out of the base, if the method has one; a resumed training takes the same again."""
    init = method.arguments(job.settings.method, 1).get("init_lora_weights")
    if method.peft_type != "LORA" or not changes_base(init):
        return None
    path = job.scratch / "start.safetensors"
    kept = load_start(path) if path.is_file() else None
    start = take_start(adapted, str(init), open_base(job.inputs["base"]), grid, kept)
    if kept is None and ranks.first:
        save_start(start, path)
    return start


def _refuse_divergence(history: Sequence[Mapping[str, Any]]) -> None:
    losses = [entry["loss"] for entry in history if "loss" in entry]
    if losses and not math.isfinite(losses[-1]):
        raise EdgepeftError(
            "training diverged (the loss is not finite); lower training.learning_rate"
        )
