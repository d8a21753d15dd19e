"""How well adapters of one base do their tasks: exact match on test rows, with the adapter unmerged, in float32.

The base is loaded once, on the grid that the adapters were trained on, and wears one adapter after another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgepeft.adapters.adapter import Adapter
from edgepeft.adapters.base_match import refuse_other_base
from edgepeft.adapters.provenance import read_provenance
from edgepeft.calibration.statistics import InputWatcher
from edgepeft.checkpoints.base import base_fingerprints, checkpoint_folder, open_base
from edgepeft.checkpoints.base_stage import base_facts
from edgepeft.checkpoints.skeleton import context_length
from edgepeft.config.test_sets import GivenTests
from edgepeft.data.prompt import Prompter
from edgepeft.errors import InputError
from edgepeft.evaluation.probes import Question, task_questions
from edgepeft.evaluation.reference import onto_training_grid
from edgepeft.evaluation.torch_model import TorchModel
from edgepeft.merging.lora import LoraFactors
from edgepeft.metrics.generation import token_loss, wilson_interval


@dataclass(frozen=True)
class TaskRows:
    """A task under its adapter's name: questions that a search may look at, and those that are reported."""

    name: str
    searched: list[Question]
    reported: list[Question]


@dataclass(frozen=True)
class Score:
    """Right answers among rows, and the mean loss of the wanted completions in nats per token."""

    rows: int
    right: int
    loss: float

    @property
    def exact_match(self) -> float:
        """Share of rows answered exactly."""
        return self.right / self.rows

    def as_dict(self) -> dict[str, Any]:
        """JSON form, with the 95 % interval of exact match."""
        return {
            "rows": self.rows,
            "exact_match": self.exact_match,
            "interval": list(wilson_interval(self.right, self.rows)),
            "loss": self.loss,
        }


def read_tests(given: Sequence[str], names: Sequence[str]) -> dict[str, Path]:
    """The files of ``NAME=FILE`` options by adapter, in the adapters' order. Raises InputError."""
    found: dict[str, Path] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not equals or name not in names:
            raise InputError(
                f"--test {text}: write it as NAME=FILE, where NAME is one of {', '.join(names)}"
            )
        if name in found:
            raise InputError(f"--test {text}: there is one for {name} already")
        found[name] = Path(file)
    absent = [name for name in names if name not in found]
    if absent:
        raise InputError(f"--test: is missing for {absent[0]}; give {absent[0]}=FILE as well")
    return {name: found[name] for name in names}


class Scorer:
    """A base in memory, ``model``, that puts adapters on and answers test rows of up to ``context`` tokens."""

    def __init__(self, model: Path, adapters: Sequence[Adapter], *, allow_mismatch: bool) -> None:
        """Load the checkpoint folder ``model`` onto the first adapter's grid.

        Raises InputError where an adapter was trained on another base, unless ``allow_mismatch``.
        """
        from transformers import AutoModelForCausalLM

        self._folder = model
        weights = checkpoint_folder(model)
        grid = base_facts(model).seen_grid
        if not allow_mismatch:
            prints = base_fingerprints(model)
            for adapter in adapters:
                known = read_provenance(adapter.folder, grid)
                refuse_other_base(prints, adapter.folder, adapter.config, known)
        self.model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).eval()
        onto_training_grid(self.model, open_base(model), read_provenance(adapters[0].folder, grid))
        self._scored = TorchModel(self.model, changes_head=False)
        self.context = context_length(self.model.config)
        self._hooks: list[Any] = []
        self._prompters: dict[str, Prompter] = {}

    def read(self, name: str, file: Path, *, rows: int, searched: int) -> TaskRows:
        """The test rows of ``file``, a data file, a recipe or a run's folder; the first ones may be searched on.

        At most ``rows`` are reported and ``searched`` kept for a search, half of them where there are few. Raises
        InputError.
        """
        given = GivenTests.read(file)
        prompter = Prompter.from_folder(self._folder, given.template, given.data.control_tokens)
        self._prompters[name] = prompter
        questions = task_questions(given.rows(), prompter, self.context)
        first = min(searched, len(questions) // 2)
        reported = questions[first : first + rows]
        if not reported:
            raise InputError(f"--test {name}={file}: contains no rows with prompt and answer")
        return TaskRows(name, questions[:first], reported)

    def wear(self, factors: LoraFactors | None) -> None:
        """Put an adapter on, in place of the one before; None for the base alone. Raises InputError."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        if factors is None:
            return
        modules = self._modules(factors.factors)
        for name, (a, b) in factors.factors.items():
            hook = _beside(a, b, factors.scaling)
            self._hooks.append(modules[name].register_forward_hook(hook))

    def moments(
        self,
        questions: Sequence[Question],
        modules: Sequence[str],
        step: Callable[[], None] = lambda: None,
    ) -> dict[str, torch.Tensor]:
        """E[x xᵀ] float32 [in, in] of each module's inputs over the tokens of questions and their answers.

        What is worn stays on; modules that read the same input share one tensor. ``step`` is called after each
        question. Raises InputError for a module that the base lacks or makes no use of.
        """
        watcher = InputWatcher(self._modules(modules))
        with watcher.watching():
            for question in questions:
                ids = question.prompt + question.completion
                watcher.begin(torch.ones(1, len(ids), dtype=torch.bool))
                self._scored.hidden([ids])
                step()
        unread = [module for module in modules if module not in watcher.found]
        if unread:
            raise InputError(
                f"combine: the base makes no use of {unread[0]}, which an adapter changes"
            )
        for one in {id(one): one for one in watcher.found.values()}.values():
            one.hessian.div_(one.tokens)
        return {module: one.hessian for module, one in watcher.found.items()}

    def _modules(self, names: Collection[str]) -> dict[str, Any]:
        found = dict(self.model.named_modules())
        for name in names:
            if name not in found:
                raise InputError(f"combine: the base has no {name}, which an adapter changes")
        return {name: found[name] for name in names}

    def score(
        self, name: str, questions: Sequence[Question], step: Callable[[], None] = lambda: None
    ) -> Score:
        """Answer questions of the task ``name`` with what is worn; ``step`` is called after each."""
        prompter, right, loss, tokens = self._prompters[name], 0, 0.0, 0
        for question in questions:
            (states,) = self._scored.hidden([question.prompt + question.completion])
            logits = self._scored.logits(states[len(question.prompt) - 1 : -1])
            wanted = torch.tensor(question.completion)
            loss += token_loss(torch.log_softmax(logits, -1), wanted)
            tokens += len(question.completion)
            right += self._scored.answers(question, states, prompter)
            step()
        return Score(len(questions), right, loss / tokens)


def _beside(a: torch.Tensor, b: torch.Tensor, scale: float) -> Any:
    def add(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        linear = torch.nn.functional.linear
        return output + scale * linear(linear(inputs[0], a), b)

    return add
