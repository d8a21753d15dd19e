"""Models in torch, float32, on the CPU: the original base and the unmerged reference, measured probe by probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from edgepeft.checkpoints.outer_head import OuterHead
from edgepeft.data.prompt import Prompter
from edgepeft.errors import EdgepeftError
from edgepeft.evaluation.probes import Question
from edgepeft.metrics.generation import could_still_match
from edgepeft.runtime.pieces import pieces

ANSWER_SLACK = 8
"""Tokens an answer may be longer than the wanted one before it counts as different."""


def even_batches(rows: Sequence[Sequence[int]], tokens: int) -> Iterator[list[int]]:
    """Indexes of ``rows`` in batches of one length, of at most ``tokens`` tokens or a single row.

    Nothing is padded, so what depends on a text's length, as long rotary positions do, is as in one row alone.
    """
    of_length: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        of_length.setdefault(len(row), []).append(index)
    for length, indexes in sorted(of_length.items()):
        size = max(1, tokens // max(1, length))
        for start in range(0, len(indexes), size):
            yield indexes[start : start + size]


class TorchModel:
    """A causal model whose head is applied only where it is needed."""

    def __init__(self, model: Any, *, changes_head: bool | None = None) -> None:
        """``model`` is a transformers model or a PeftModel around one, in eval mode.

        ``changes_head`` says whether its head is another than the base's; None: see whether PEFT wraps it.
        """
        self._model = model
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._body = base.get_decoder() if hasattr(base, "get_decoder") else base.model
        self._head = base.get_output_embeddings()
        self.outer = OuterHead.of(base.config)
        self.vocabulary: int = base.config.vocab_size
        """Width of the logits, but for tokens that an adapter has beside them."""
        config = getattr(model, "peft_config", {}).get("default")
        self._prompted = config is not None and config.is_prompt_learning
        wrapped = not isinstance(self._head, torch.nn.Linear)
        self.changes_head = wrapped if changes_head is None else changes_head

    def hidden(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """Final hidden states float32 [B, T, H]: what the head reads; of ``rows`` alone, not of virtual tokens.

        Rows are as long as one another, so that none is padded.
        """
        ids = torch.tensor(rows)
        if self._prompted:
            return self._after_prompt(ids)
        with torch.no_grad():
            states: torch.Tensor = self._body(input_ids=ids, use_cache=False).last_hidden_state
        return states

    def _after_prompt(self, ids: torch.Tensor) -> torch.Tensor:
        """Hidden states of ``ids`` where PEFT's own forward puts virtual tokens before them."""
        kept: list[torch.Tensor] = []
        hook = self._body.register_forward_hook(
            lambda module, arguments, output: kept.append(output.last_hidden_state)
        )
        try:
            with torch.no_grad():
                self._model(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    use_cache=False,
                    logits_to_keep=1,
                )
        finally:
            hook.remove()
        (states,) = kept
        return states[:, -ids.shape[1] :]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits float32 [T, V] of hidden states."""
        with torch.no_grad():
            return self.outer(self._head(hidden))

    def head_weight(self) -> torch.Tensor:
        """The head as one matrix float32 [V, H], worked out by applying it to the unit vectors."""
        width = self._model.config.hidden_size
        with torch.no_grad():
            columns: torch.Tensor = self._head(torch.eye(width))
        return columns.T.contiguous()

    def check_head(self, ids: list[int]) -> None:
        """Make sure that head and hidden states alone give the model's own logits. Raises EdgepeftError."""
        with torch.no_grad():
            own = self._model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        difference = float((own - self.logits(self.hidden([ids])[0])).abs().max())
        if difference > 1e-3:
            raise EdgepeftError(
                f"this architecture does more after its head than edgepeft knows (logits differ by "
                f"{difference:.2g}); it can't be measured"
            )

    def answers(self, question: Question, hidden: torch.Tensor, prompter: Prompter) -> bool:
        """Whether the greedy answer equals the wanted one; ``hidden`` is of prompt and completion.

        Where the model prefers the wanted token at every step, greedy decoding is the completion. Where it
        departs, the text shows at once whether another spelling of the same answer is still possible; only
        then is decoding carried on.
        """
        start = len(question.prompt)
        behind = hidden[start - 1 : -1]
        parts = pieces(len(behind), self.vocabulary)
        first = [token for part in parts for token in self.logits(behind[part]).argmax(-1).tolist()]
        wanted = question.completion
        if first == wanted:
            return True
        split = next(i for i, (a, b) in enumerate(zip(first, wanted, strict=True)) if a != b)
        answer = [*wanted[:split], int(first[split])]
        # The verifier lets a bundle say as much and no more.
        while answer[-1] not in prompter.stop_ids and len(answer) < len(wanted) + ANSWER_SLACK:
            if not could_still_match(prompter.decode(answer), question.text):
                return False
            (states,) = self.hidden([question.prompt + answer])
            answer.append(int(self.logits(states[-1:]).argmax()))
        return prompter.decode(answer).strip() == question.text
