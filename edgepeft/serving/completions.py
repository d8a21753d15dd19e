"""Requests of OpenAI's older completions: a prompt as it stands, without roles and without the chat template.

Form: https://platform.openai.com/docs/api-reference/completions. Text that looks like a control token is text, as
everywhere; whoever means the token sends token ids.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from edgepeft.serving.fields import COMPLETION_NEUTRAL, HARMLESS
from edgepeft.serving.refusals import RequestError
from edgepeft.serving.sampled import MOST_ANSWERS, Sampled


class CompletionRequest(Sampled):
    """The fields of ``POST /v1/completions`` that are honoured; ``read`` makes one."""

    neutral = COMPLETION_NEUTRAL
    harmless = HARMLESS

    # Each a text, or token ids.
    prompt: list[str | list[int]] = Field(min_length=1)
    logprobs: int | None = None

    @classmethod
    def prepared(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """As ``Fields.prepared``."""
        prompt = fields.get("prompt")
        one = isinstance(prompt, str) or (
            isinstance(prompt, list) and prompt and all(type(part) is int for part in prompt)
        )
        if one:
            fields["prompt"] = prompt = [prompt]
        for at, each in enumerate(prompt if isinstance(prompt, list) else ()):
            ids = isinstance(each, list) and each and all(type(part) is int for part in each)
            if not (isinstance(each, str) or ids):
                raise RequestError(
                    400, f"prompt.{at}: must be a text or token ids", param=f"prompt.{at}"
                )
        return super().prepared(fields)

    def check(self) -> None:
        """As ``Fields.check``."""
        super().check()
        if self.stream and len(self.prompt) > 1:
            raise RequestError(
                400,
                "prompt: a streamed answer comes alone; send one prompt, or ask without stream",
                param="prompt",
            )
        if self.n * len(self.prompt) > MOST_ANSWERS:
            raise RequestError(
                400,
                f"prompt: {len(self.prompt)} prompts with {self.n} answers each are more than the "
                f"{MOST_ANSWERS} answers of one request",
                param="prompt",
            )

    def wanted_logprobs(self) -> tuple[str, int | None]:
        """As ``Sampled.wanted_logprobs``."""
        return "logprobs", self.logprobs
