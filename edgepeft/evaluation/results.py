"""What the stages say that prove a bundle, verification aside, whose measures are those of the task."""

from __future__ import annotations

from pydantic import Field

from edgepeft.stages.job import StageResult


class Difference(StageResult):
    """How far logits are from the witness's, as ``Agreement`` has it (None: no number), and at how many
    positions.
    """

    difference: float | None = None
    positions: int = 0


class WitnessResult(StageResult):
    """How much the witness wrote down: texts, compared positions, tokens of the longest text, and the lengths at
    which the model treats a text differently.
    """

    texts: int
    positions: int
    longest: int
    limits: tuple[int, ...]
    seconds: float


class GraphFacts(StageResult):
    """How a graph in floating point stands against the witness, and each runtime that answers with it."""

    graph: Difference = Field(default_factory=Difference)
    engines: dict[str, Difference] = Field(default_factory=dict)


class FloatGraphResult(GraphFacts):
    """The same of the float form of a bundle's graph, with the seconds taken."""

    seconds: float


class WitnessFacts(StageResult):
    """What the second witness says of a bundle, as ``fidelity.json`` keeps it under ``witness``.

    ``compared`` says what was held against it in floating point, with ``difference``, ``positions`` and
    ``engines``: the bundle itself, or its float form; None for rounded weights whose float form is not at hand.
    ``long_kl`` is the mean KL(witness || bundle) on the long text alone, rounding included, and None for
    embeddings. ``reference`` is None where the reference means another base.
    """

    compared: str | None
    difference: float | None
    positions: int
    engines: dict[str, Difference]
    longest: int
    limits: tuple[int, ...]
    long_kl: float | None
    seconds: float
    reference: Difference | None = None


class ModelFacts(StageResult):
    """A model that generates on the test rows: its loss in nats per token, its share of exact matches (None
    without completions) with the seconds that took, and where all of its wrong answers are.
    """

    task_loss: float
    exact_match: float | None
    exact_match_seconds: float
    wrong: tuple[str, ...]


class ReferenceResult(StageResult):
    """The bare base and the unmerged adapter on the test rows, and what was measured of them."""

    base: ModelFacts
    reference: ModelFacts
    rows: int
    task_tokens: int
    generic_tokens: int
    exact_match_seconds: float


class AnswerShares(StageResult):
    """Shares of answers, from 0 to 1: those that are JSON, that fit the schema, and that are the wanted text."""

    parse: float
    fit: float
    exact_match: float


class CallShares(StageResult):
    """Shares of answers, from 0 to 1: those whose calls can be read, that call the wanted tools, and that call
    them with the wanted arguments, as JSON. An answer that is to call nothing is right where it calls nothing.
    """

    parse: float
    name: float
    call: float


class CallForm(StageResult):
    """Answers to so many rows with tools, ``free`` and within their grammar (``bounded``; None where that can't
    be, and why).
    """

    rows: int
    free: CallShares
    bounded: CallShares | None
    unbounded_because: str | None = None


class AnswerForm(StageResult):
    """Answers to so many rows, ``free`` and within the schema (``bounded``)."""

    rows: int
    free: AnswerShares
    bounded: AnswerShares
