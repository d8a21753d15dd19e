"""Whether a bundle calls what its rows call, as JSON: answered freely, and within the grammar of the tools.

How the template writes them, the order of arguments and white space, is compared by exact match, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from edgepeft.data.rows import ToolCall
from edgepeft.errors import InputError, MissingError
from edgepeft.evaluation.probes import Question
from edgepeft.evaluation.results import CallForm, CallShares
from edgepeft.evaluation.torch_model import ANSWER_SLACK
from edgepeft.guidance.grammar import Grammar
from edgepeft.runtime.generate import Runtime
from edgepeft.tool_calling.offered import Offered
from edgepeft.utils.alike import same_json

_Calls = list[tuple[str, Any]]


def call_form(
    runtime: Runtime,
    questions: Sequence[Question],
    missed: Collection[str],
    lead: Sequence[int],
    step: Callable[[], None],
) -> CallForm | None:
    """Ask every question that has tools within their grammar, and once more freely what was ``missed``, by the
    rows' places.

    Whatever was not missed was answered with the wanted text. ``lead`` are token ids before every prompt;
    ``step`` is called after each question. None where no question has tools, or the template's calls can't be
    read. Raises as the runtime does.
    """
    asked = [question for question in questions if question.tools]
    if not asked or not runtime.tool_use.readable:
        return None
    wanted = [_functions(question.calls) for question in asked]
    free: list[_Calls | None] = []
    bounded: list[_Calls | None] = []
    unbounded: str | None = None

    def said(question: Question, grammar: Grammar | None) -> _Calls | None:
        room = 2 * len(question.completion) + ANSWER_SLACK
        prompt = [*lead, *question.prompt]
        return read(question, runtime.generate_ids(prompt, max_new_tokens=room, grammar=grammar))

    def read(question: Question, ids: Sequence[int]) -> _Calls | None:
        parsed = runtime.tool_use.parsed(ids, question.tools)
        # An answer that begins a call and does not end it calls nothing, and is none without calls either.
        if not parsed.calls and runtime.tool_use.begun(ids):
            return None
        return _functions(parsed.calls)

    for question in asked:
        was_missed = question.where in missed
        free.append(said(question, None) if was_missed else read(question, question.completion))
        try:
            if unbounded is None:
                grammar = runtime.tool_use.grammar(Offered(tuple(question.tools)))
                bounded.append(said(question, grammar))
        except (InputError, MissingError) as error:
            unbounded = str(error)
        step()
    return CallForm(
        rows=len(asked),
        free=_shares(free, wanted),
        bounded=_shares(bounded, wanted) if unbounded is None else None,
        unbounded_because=unbounded,
    )


def _functions(calls: Sequence[ToolCall]) -> _Calls:
    return [(call["function"]["name"], call["function"]["arguments"]) for call in calls]


def _shares(answers: Sequence[_Calls | None], wanted: Sequence[_Calls]) -> CallShares:
    pairs = list(zip(answers, wanted, strict=True))

    def share(right: Callable[[_Calls, _Calls], bool]) -> float:
        return sum(one is not None and right(one, other) for one, other in pairs) / len(pairs)

    return CallShares(
        parse=share(lambda ours, theirs: True),
        name=share(lambda ours, theirs: [one for one, _ in ours] == [one for one, _ in theirs]),
        call=share(
            lambda ours, theirs: same_json(
                [list(one) for one in ours], [list(one) for one in theirs]
            )
        ),
    )
