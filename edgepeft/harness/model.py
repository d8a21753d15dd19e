"""A bundle as one of lm-evaluation-harness's models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from edgepeft.data.control_tokens import policy_of
from edgepeft.data.prompt import Prompter
from edgepeft.data.template_modes import AUTO, MODES
from edgepeft.errors import InputError
from edgepeft.events import Events
from edgepeft.harness.asked import sampling_of
from edgepeft.harness.needs import refuse_encoder
from edgepeft.harness.scoring import Scored, Scorer, Window
from edgepeft.harness.telling import Telling
from edgepeft.harness.texts import Texts, Turns
from edgepeft.runtime.adapters import BASE, open_adapter
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.decoder_session import GraphSession
from edgepeft.runtime.devices import find_adapter
from edgepeft.runtime.generate import Runtime
from edgepeft.runtime.pieces import prompt_chunk
from edgepeft.runtime.providers import SOFTWARE_CHUNK, provider_name


class BundleLM(LM):  # type: ignore[misc]
    """A bundle to hand to ``lm_eval.simple_evaluate(model=…)``.

    Log-likelihoods come out of the graph that ships, read by plain onnxruntime; answers are made by the runtime
    that the bundle is laid out for. Either is loaded when the first request asks for it. With
    ``apply_chat_template`` prompts are those that the bundle is asked with on the device. What is longer than the
    context loses its beginning, as with lm_eval's hf model; ``truncated`` counts these requests.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        adapter: str | None = None,
        threads: int | None = None,
        provider: str | None = None,
        seed: int | None = None,
        events: Events | None = None,
    ) -> None:
        """Open ``bundle``; a path with all its checks.

        ``adapter`` is one of a hot-swap bundle's, ``provider`` another than the bundle was built for, ``seed`` is
        that of tasks whose answers are sampled. ``events`` hear of the progress; without them lm_eval's bars are
        drawn.

        Raises InputError for a bundle that ``Bundle.open`` refuses, one that generates no text, and an unknown
        adapter or provider.
        """
        super().__init__()
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        refuse_encoder(self.bundle)
        self.adapter = (
            None
            if adapter is None or adapter == BASE
            else open_adapter(self.bundle, adapter, check="hashes")
        )
        self.provider = provider_name(provider or self.bundle.provider)
        self.truncated = 0
        mode = self.bundle.prompt_mode
        asked = self.bundle.manifest["result"].get("prompt") or {}
        self.prompter = Prompter.from_folder(
            self.bundle.path, mode if mode in MODES else AUTO, policy_of(asked)
        )
        self._provider, self._threads, self._seed = provider, threads, seed
        self._telling = Telling(events)
        self._texts = Texts(self.prompter)
        self._window = Window(self.bundle.context_length, self.bundle.virtual_ids)

    @property
    def max_length(self) -> int:
        """Tokens that are read at once."""
        return self._window.room

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text. Raises InputError where the bundle names none."""
        text = self.prompter.special_tokens.get("eos_token")
        token = self.prompter.tokenizer.token_to_id(text) if text else None
        token = self.prompter.eos_id if token is None else token
        if token is None:
            raise InputError(
                f"{self.bundle.path}: names no end-of-sequence token; name eos_token in tokenizer_config.json"
            )
        return int(token)

    @property
    def prefix_token_id(self) -> int:
        """The token that a text without a context follows."""
        bos = self.prompter.bos_id
        return self.eot_token_id if bos is None else bos

    @property
    def tokenizer_name(self) -> str:
        """A name for lm_eval's cache of prompts, which differs where tokenizer or template does."""
        outputs = self.bundle.manifest["outputs"]
        facts = [self.prompter.describe(), outputs["tokenizer.json"]["sha256"]]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return f"edgepeft-{digest[:24]}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The bundle's template, where one is asked for; empty for a bundle that has none."""
        return (self.prompter.template_source or "") if chat_template else None

    def apply_chat_template(self, chat_history: Turns, add_generation_prompt: bool = True) -> str:
        """The prompt that the bundle is asked with; without ``add_generation_prompt`` the last turn is the
        beginning of the answer. Raises InputError for a conversation that the template refuses.
        """
        return self._texts.conversation(chat_history, begun=not add_generation_prompt)

    def get_model_info(self) -> dict[str, Any]:
        """What lm_eval notes of the model among its results."""
        return {
            "bundle": str(self.bundle.path),
            "model_source": "edgepeft",
            "base": self.bundle.base,
            "target": self.bundle.target,
            "provider": self.provider,
            "adapter": self.adapter.name if self.adapter else None,
        }

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Nats of each continuation after its context, and whether greedy decoding would give it.

        Raises InputError for a continuation longer than the context, EdgepeftError when the graph fails.
        """
        pairs = [self._pair(*request.args[:2]) for request in requests]
        scores = self._score(pairs, "log-likelihoods", disable_tqdm)
        for request, score in zip(requests, scores, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, tuple(score))
        return [(score.nats, score.greedy) for score in scores]

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Nats of each whole text, window after window where it is longer than the context. Raises as
        ``loglikelihood``.
        """
        windows: list[tuple[list[int], list[int]]] = []
        counts = []
        for request in requests:
            ids = self._window.bare(self._texts.prompt(request.args[0]))
            parts = get_rolling_token_windows(
                token_list=ids,
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            found = [make_disjoint_window(part) for part in parts]
            windows += found
            counts.append(len(found))
        scores = iter(self._score(windows, "texts", disable_tqdm))
        totals = [sum(next(scores).nats for _ in range(count)) for count in counts]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The answer to each prompt, up to what its task says ends one.

        Raises InputError for settings that the runtime lacks and answers longer than the context, EdgepeftError
        when the runtime fails.
        """
        answers = []
        cut = 0
        with self._telling.steps("answers", len(requests), hidden=disable_tqdm) as steps:
            for place, request in enumerate(requests):
                prompt, settings = request.args[:2]
                task = str(getattr(request, "task_name", None) or "eval")
                # Repeats of one question are other samples of its answer.
                seed = None if self._seed is None else self._seed + place
                sampling = sampling_of(settings, seed, task)
                if sampling.max_new_tokens >= self.max_length:
                    raise InputError(
                        f"{task}: asks for answers of up to {sampling.max_new_tokens} tokens, and "
                        f"{self.bundle.path} has a context of {self.max_length}; lower max_gen_toks in the "
                        "task's generation_kwargs"
                    )
                ids, left = self._window.prompt(self._texts.prompt(prompt), sampling.max_new_tokens)
                cut += left > 0
                stream = self._runtime.stream_ids(ids, sampling)
                for _ in stream:
                    pass
                done = stream.completion()
                answers.append(done.text)
                self.cache_hook.add_partial("generate_until", request.args, done.text)
                steps.done(1, len(done.ids))
        self._tell_of_cut(cut, len(requests))
        return answers

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if not context:
            ids = self._texts.continuation(continuation)
            if ids and ids[0] == self.prefix_token_id:
                return ids[:1], ids[1:]
            return [self.prefix_token_id], ids
        first, following = self._texts.pair(context, continuation)
        # A context of white space alone goes to the continuation, and something must stand before that.
        return first if self._window.bare(first) else [self.prefix_token_id], following

    def _score(
        self, pairs: Sequence[tuple[list[int], list[int]]], what: str, hidden: bool
    ) -> list[Scored]:
        fitted = [self._window.fit(*pair) for pair in pairs]
        with self._telling.steps(what, len(fitted), hidden=hidden) as steps:
            scores = self._scorer.score(
                fitted, lambda places, tokens: steps.done(len(places), tokens)
            )
        self._tell_of_cut(sum(text.cut > 0 for text in fitted), len(fitted))
        return scores

    def _tell_of_cut(self, cut: int, total: int) -> None:
        self.truncated += cut
        if cut:
            self._telling.warn(
                f"{cut} of {total} prompts are longer than the context of {self.max_length} tokens with what "
                "follows them, and lost their beginning"
            )
        if self._texts.without_system:
            self._telling.warn(
                f"{self._texts.without_system} prompts lost their system turn, which the template does not take"
            )
            self._texts.without_system = 0

    @cached_property
    def _scorer(self) -> Scorer:
        factors = self.adapter.factors if self.adapter else None
        graph = GraphSession(
            self.bundle, threads=self._threads, providers=[self.provider], adapter=factors
        )
        virtual = self.bundle.virtual_ids
        software = find_adapter(self.provider).software
        chunk = SOFTWARE_CHUNK if software else prompt_chunk(graph.vocab_size)
        return Scorer(graph, virtual[0] if virtual else graph.vocab_size, chunk)

    @cached_property
    def _runtime(self) -> Runtime:
        runtime = Runtime(self.bundle, threads=self._threads, provider=self._provider)
        if self.adapter is not None:
            runtime.swap_adapter(self.adapter.name)
        return runtime
