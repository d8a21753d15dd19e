"""Whether answers fit the schema that their bundle has, with it and without: how many parse, fit and are right.

Who judges is jsonschema, which shares nothing with the grammar that the answers were made by.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from edgepeft.evaluation.probes import Question
from edgepeft.evaluation.results import AnswerForm, AnswerShares
from edgepeft.evaluation.torch_model import ANSWER_SLACK
from edgepeft.guidance.grammar import Grammar
from edgepeft.guidance.judge import Judge
from edgepeft.runtime.generate import Runtime


def answer_form(
    runtime: Runtime,
    questions: Sequence[Question],
    grammar: Grammar,
    missed: Collection[str],
    lead: Sequence[int],
    step: Callable[[], None],
) -> AnswerForm | None:
    """Ask everything within ``grammar``, and once more freely what was ``missed``, by the rows' places.

    Whatever was not missed was answered with the wanted text. ``lead`` are token ids before every prompt;
    ``step`` is called after each question. None without questions. Raises as the runtime does.
    """
    if not questions:
        return None
    judge = Judge(grammar.text)
    room = 2 * max(len(question.completion) for question in questions) + ANSWER_SLACK
    texts: dict[str, list[str]] = {"free": [], "bounded": []}

    def said(question: Question, bound: Grammar | None) -> str:
        ids = [*lead, *question.prompt]
        answer = runtime.generate_ids(ids, max_new_tokens=room, grammar=bound)
        return runtime.prompter.decode(answer).strip()

    for question in questions:
        texts["bounded"].append(said(question, grammar))
        was_missed = question.where in missed
        texts["free"].append(said(question, None) if was_missed else question.text)
        step()

    def shares(answers: list[str]) -> AnswerShares:
        count = len(questions)
        right = sum(text == one.text for text, one in zip(answers, questions, strict=True))
        return AnswerShares(
            parse=sum(map(judge.parses, answers)) / count,
            fit=sum(judge.objection(text) is None for text in answers) / count,
            exact_match=right / count,
        )

    return AnswerForm(
        rows=len(questions), free=shares(texts["free"]), bounded=shares(texts["bounded"])
    )
