"""What chat completions and completions have in common: how tokens are chosen, how many, and in what form."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from edgepeft.runtime.sampling_params import OutOfRange, SamplingParams
from edgepeft.serving.body import Fields, Strict
from edgepeft.serving.fields import STREAM_NEUTRAL, objection
from edgepeft.serving.refusals import RequestError, refuse

WHOLE = ("n", "top_k", "seed", "max_tokens", "max_completion_tokens", "top_logprobs")
"""Fields that are whole numbers, in whatever form they are sent."""
MOST_ANSWERS = 16
"""Answers to one request."""


class StreamOptions(Strict):
    """Of a streamed answer."""

    include_usage: bool = False


class Sampled(Fields):
    """The fields of a request for answers. Unlike at OpenAI, temperature is 0 by default: what was measured is
    greedy.
    """

    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    # What the fields' ranges are beside OpenAI's own bounds, ``sampling`` says.
    temperature: float = Field(SamplingParams.temperature, le=2)
    top_p: float = SamplingParams.top_p
    top_k: int = SamplingParams.top_k
    seed: int | None = SamplingParams.seed
    stop: list[str] = Field(default_factory=list, max_length=4)
    n: int = Field(1, ge=1, le=MOST_ANSWERS)
    frequency_penalty: float = SamplingParams.frequency_penalty
    presence_penalty: float = SamplingParams.presence_penalty
    # Beyond these logits of half precision leave their range.
    repetition_penalty: float = Field(SamplingParams.repetition_penalty, ge=0.01, le=100)
    logit_bias: dict[int, float] = Field(default_factory=dict)

    @classmethod
    def prepared(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """As ``Fields.prepared``."""
        if isinstance(fields.get("stop"), str):
            fields["stop"] = [fields["stop"]]
        if isinstance(options := fields.get("stream_options"), dict):
            fields["stream_options"] = _options(options)
        if isinstance(bias := fields.get("logit_bias"), dict):
            fields["logit_bias"] = {_token(name): value for name, value in bias.items()}
        for name in WHOLE:
            # Some clients have one type of numbers alone.
            if isinstance(value := fields.get(name), float) and value.is_integer():
                fields[name] = int(value)
        if fields.get("logit_bias") == []:
            del fields["logit_bias"]
        if fields.get("top_k") == -1:  # as vLLM says any
            fields["top_k"] = 0
        return fields

    def check(self) -> None:
        """As ``Fields.check``."""
        self.sampling()
        if self.stream and self.n > 1:
            raise RequestError(
                400, "n: a streamed answer comes alone; ask for one, or without stream", param="n"
            )

    def wanted_tokens(self) -> tuple[str, int | None]:
        """The field that says how many tokens an answer may have, and what it says."""
        return "max_tokens", self.max_tokens

    def wanted_logprobs(self) -> tuple[str, int | None]:
        """The field that says how many alternatives come with each token, and what it says; None for no
        log-probabilities.
        """
        raise NotImplementedError

    def sampling(self, most: int | None = None) -> SamplingParams:
        """What the request says of choosing tokens, ``most`` of them where it doesn't say how many.

        Raises RequestError for a field that is out of range and for more tokens than ``most``.
        """
        word, asked = self.wanted_tokens()
        kept_by, kept = self.wanted_logprobs()
        if asked is not None and most is not None and asked > most:
            raise RequestError(
                400, f"max_tokens: {asked} is more than this server's {most}", param="max_tokens"
            )
        if asked is None:
            asked = SamplingParams.max_new_tokens if most is None else most
        try:
            return SamplingParams(
                max_new_tokens=asked,
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
                repetition_penalty=self.repetition_penalty,
                seed=self.seed,
                stop=self.stop,
                frequency_penalty=self.frequency_penalty,
                presence_penalty=self.presence_penalty,
                logit_bias=self.logit_bias,
                logprobs=kept,
            )
        except OutOfRange as error:
            param = {"max_new_tokens": word, "logprobs": kept_by}.get(error.name, error.name)
            raise RequestError(400, f"{param}: {error.said}", param=param) from None


def _token(name: str) -> int:
    if not (name.isascii() and name.isdecimal() and len(name) <= 9):
        raise RequestError(
            400, f"logit_bias: {name[:40]!r} is not a token id of this model", param="logit_bias"
        )
    return int(name)


def _options(sent: dict[str, Any]) -> dict[str, Any]:
    honoured = tuple(StreamOptions.model_fields)
    refuse(objection(sent, honoured, STREAM_NEUTRAL), "stream_options")
    return {name: sent[name] for name in honoured if sent.get(name) is not None}
