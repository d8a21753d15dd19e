"""How people call the columns of what is asked and what is answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgepeft.data.fields import COLUMNS, Use

QUESTIONS = (
    *("prompt", "question", "query", "instruction", "input", "user", "human", "problem", "request"),
    *("utterance", "source", "context", "message", "text", "sentence", "title", "q"),
)
ANSWERS = (
    *("completion", "answer", "response", "output", "target", "assistant", "reply", "solution"),
    *("summary", "translation", "label", "intent", "category", "sql", "code", "command", "a"),
)
WORSE = ("reject", "worse", "bad", "wrong", "incorrect", "negative", "disprefer", "lose", "losing")
"""Parts of names of answers that nobody wants to learn."""
BETTER = ("chosen", "better", "preferred", "accepted", "winning", "good")


def told_apart(names: Sequence[str], texts: Sequence[str]) -> dict[str, str]:
    """Our names to those of the columns of a question with a better and a worse answer, or with one answer.

    Columns of ``texts`` are told by what they are called, else by their place; what can't be told is left out.
    """
    worse, better = part_of(names, WORSE), part_of(names, BETTER)
    question = like(texts, QUESTIONS)
    found: dict[str, str | None]
    if worse is not None and better is not None:
        found = {"prompt": question, "chosen": better, "rejected": worse}
    else:
        answer = like([name for name in texts if name != question], ANSWERS)
        others = iter([name for name in texts if name not in (question, answer)])
        question = question or next(others, None)
        found = {"prompt": question, "completion": answer or next(others, None)}
    return {ours: theirs for ours, theirs in found.items() if theirs is not None}


def like(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """The first of ``names`` that is called like one of ``wanted``, best first."""
    by_name = {name.lower().replace(" ", "_"): name for name in reversed(list(names))}
    return next((by_name[one] for one in wanted if one in by_name), None)


def part_of(names: Iterable[str], parts: Sequence[str]) -> str | None:
    """The first of ``names`` with one of ``parts`` in it."""
    return next((name for name in names if any(part in name.lower() for part in parts)), None)


def may_hold_text(name: str) -> bool:
    """Whether a column of this name may be learned from: none of ids and masks, nor of worse answers."""
    known = COLUMNS.get(name.lower())
    return (known is None or known.use is Use.used) and part_of([name], WORSE) is None
