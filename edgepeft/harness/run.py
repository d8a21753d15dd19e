"""Carrying out tasks with a bundle, as lm_eval does, and what came of them."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepeft.compat.lm_eval_fetching import CodeRefused, watched
from edgepeft.errors import InputError
from edgepeft.events import Events
from edgepeft.harness.quiet import quiet
from edgepeft.harness.results import EvalResult, task_scores
from edgepeft.harness.tasks import load_tasks
from edgepeft.utils.extras import installed_versions

if TYPE_CHECKING:
    from edgepeft.runtime.bundle import Bundle

_RESAMPLINGS = 1000
"""Draws for a standard error that has no formula; they are made on one core."""
_SEED, _RANDOM_SEED = 1234, 0
"""lm_eval's own seeds, of the examples shown and of Python's random module."""
_LIBRARIES = ("lm_eval", "datasets", "onnxruntime", "onnxruntime-genai", "tokenizers")


@dataclass(frozen=True)
class Asked:
    """What is to be evaluated.

    ``tasks`` are names or patterns, ``folder`` has further ones, ``limit`` is the most rows of a task,
    ``fewshot`` the examples shown before each row where a task doesn't fix them at 0. ``chat`` asks through the
    bundle's template. ``seed`` chooses examples and sampled answers; without one lm_eval's own seeds do.
    """

    tasks: Sequence[str]
    folder: Path | None = None
    limit: int | None = None
    fewshot: int | None = None
    chat: bool = True
    seed: int | None = None


@dataclass(frozen=True)
class Engine:
    """How the bundle runs: arguments of ``BundleLM``."""

    adapter: str | None = None
    threads: int | None = None
    provider: str | None = None


def evaluate(bundle: Bundle, asked: Asked, engine: Engine, events: Events) -> EvalResult:
    """Carry out tasks with a bundle.

    Raises InputError and MissingError as ``load_tasks`` and ``BundleLM`` do, EdgepeftError when a runtime fails.
    """
    started = time.monotonic()
    with quiet(events.warning):
        from lm_eval.evaluator import evaluate as carry_out

        from edgepeft.harness.model import BundleLM

        model = BundleLM(bundle, **asdict(engine), seed=asked.seed, events=events)
        if model.adapter is not None and model.adapter.warning:
            events.warning(model.adapter.warning)
        loaded = load_tasks(asked.tasks, asked.folder)
        for name, task in loaded.tasks.items():
            _set_examples(name, task, asked)
        random.seed(_RANDOM_SEED if asked.seed is None else asked.seed)
        np.random.seed(_SEED if asked.seed is None else asked.seed)
        try:
            with watched():
                found = carry_out(
                    lm=model,
                    task_dict=vars(loaded),
                    limit=asked.limit,
                    log_samples=False,
                    bootstrap_iters=_RESAMPLINGS,
                    apply_chat_template=asked.chat,
                    fewshot_as_multiturn=asked.chat,
                )
        except CodeRefused as error:
            raise InputError(
                f"eval: the measure {error.name} is Python code of the hub, which is not run; leave out its task"
            ) from None
    return EvalResult(
        bundle=str(bundle.path),
        adapter=model.adapter.name if model.adapter else None,
        tasks={name: task_scores(found, "results", name) for name in found["n-samples"]},
        groups={name: task_scores(found, "groups", name) for name in found.get("groups", {})},
        chat=asked.chat,
        truncated=model.truncated,
        seconds=round(time.monotonic() - started, 3),
        versions=installed_versions(_LIBRARIES),
    )


def _set_examples(name: str, task: Any, asked: Asked) -> None:
    """How many examples a task shows, and which. Raises InputError where it has fewer."""
    own = task.get_config("num_fewshot")
    if own is None or (asked.fewshot is not None and own != 0):
        task.set_config("num_fewshot", asked.fewshot or 0)
    task.set_fewshot_seed(_SEED if asked.seed is None else asked.seed)
    wanted = task.get_config("num_fewshot")
    shown = getattr(getattr(task, "sampler", None), "df", None)
    if not wanted or shown is None:
        return
    same = task.fewshot_cfg.split == task.get_config("test_split")
    # The row that is asked is not shown.
    there = len(shown) - (1 if same else 0)
    if wanted > there:
        raise InputError(f"--num-fewshot {wanted}: {name} has {max(there, 0)} rows to show")
