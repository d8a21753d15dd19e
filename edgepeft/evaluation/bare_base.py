"""The base a bundle began as, answering as a bundle does: what the adapter has taught shows beside it.

Needs what built the bundle, torch and transformers; the device's runtime has neither.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import psutil

from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.data.control_tokens import policy_of
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Message
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.models.tasks import GENERATION
from edgepeft.runs.folder import read_manifest
from edgepeft.runtime.answer import Progress, Said, Stream
from edgepeft.runtime.detokenize import spelled
from edgepeft.runtime.guided import Choice
from edgepeft.runtime.sampling import Sampler, Shift
from edgepeft.runtime.sampling_params import SamplingFields, SamplingParams
from edgepeft.runtime.search_options import search_options
from edgepeft.stages.needs import ADAPTED, require_libraries

_BYTES = 4
"""The base computes in float32, as it does where the bundle is measured."""


def base_of(bundle: Path) -> Path:
    """The finished base stage of the run that a bundle lies in. Raises InputError where there is none."""
    manifest = read_manifest(bundle) or {}
    key = str(manifest.get("inputs", {}).get("base", ""))
    for run in bundle.resolve().parents[:2]:
        stage = run / "stages" / f"base-{key[:12]}"
        if key and read_manifest(stage) is not None:
            return stage
    raise InputError(
        f"{bundle}: its base is not beside it; only a bundle in its run's folder has one"
    )


class BareBase:
    """The original base without adapter, in float32 on the CPU, asked through the bundle's own template."""

    def __init__(self, bundle: Path) -> None:
        """Load the base of a bundle's run.

        Raises InputError as ``base_of`` does and for an encoder, MissingError without torch, EdgepeftError where
        memory is short.
        """
        require_libraries([{"export": ADAPTED}])
        manifest = read_manifest(bundle) or {}
        task = manifest.get("result", {}).get("task", GENERATION)
        if task != GENERATION:
            raise InputError(
                f"{bundle}: is for {task}; only a model that generates has a base to ask"
            )
        stage = base_of(bundle)
        folder = checkpoint_folder(stage)
        self.name = str(manifest["result"]["base"])
        _check_memory(folder)
        template = bundle / "chat_template.jinja"
        prompt = manifest["result"]["prompt"]
        self.prompter = Prompter.from_folder(
            stage,
            str(template) if prompt["mode"] == "chat" else "plain",
            policy_of(prompt),
        )
        import torch
        from transformers import AutoModelForCausalLM

        from edgepeft.checkpoints.skeleton import context_length

        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._context = context_length(self._model.config)

    def stream(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams = SamplingParams(),  # noqa: B008  (it is frozen)
        **fields: Unpack[SamplingFields],
    ) -> Stream:
        """Answer a conversation, piece by piece of text; ``fields`` are those of ``sampling`` that are others.

        Raises InputError for a prompt longer than the context and for values out of range.
        """
        chosen = replace(sampling, **fields)
        ids = self.prompter.prompt(messages)
        room = min(chosen.max_new_tokens, self._context - len(ids))
        if room < 1:
            raise InputError(f"the prompt has {len(ids)} tokens, the context holds {self._context}")
        progress = Progress(ids)
        tokens = self._tokens(ids, room, chosen)
        return Stream(spelled(tokens, progress, self.prompter, chosen.stop), progress)

    def _tokens(
        self, prompt: Sequence[int], room: int, chosen: SamplingParams
    ) -> Generator[Said, None, None]:
        import torch

        ids = list(prompt)
        choice: Choice | None = None
        cache, given = None, torch.tensor([ids])
        for _ in range(room):
            with torch.no_grad():
                output = self._model(input_ids=given, past_key_values=cache, use_cache=True)
            logits = output.logits[0, -1].numpy()
            if choice is None:
                options = search_options(chosen, len(logits))
                shift = Shift.of(chosen, len(ids))
                sampler = Sampler(options, self.prompter.stop_ids, shift)
                choice = Choice(sampler, top=chosen.logprobs)
            said = choice.next(logits, ids)
            yield said
            ids.append(said.id)
            cache, given = output.past_key_values, torch.tensor([[said.id]])


def _check_memory(folder: Path) -> None:
    from edgepeft.models import inspect_model

    need, free = inspect_model(folder).parameters * _BYTES, psutil.virtual_memory().available
    if need > free:
        raise EdgepeftError(
            f"the base takes {need / 1e9:.1f} GB in float32, of which {free / 1e9:.1f} GB are free"
        )
