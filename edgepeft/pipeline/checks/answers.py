"""What of a schema of answers does not go with the targets and the rows."""

from __future__ import annotations

from edgepeft.errors import InputError
from edgepeft.pipeline.resolved import ResolvedRecipe


def check_targets(resolved: ResolvedRecipe) -> None:
    """``answer.json_schema``: one for all adapters of a hot-swap bundle, whose tasks are their own."""
    if resolved.answer is None:
        return
    for target in resolved.targets:
        if target.swaps:
            raise InputError(
                f"answer.json_schema: {target.name} takes adapters, each with answers of its own; leave it "
                "out and give the schema with each question"
            )


def check_rows(resolved: ResolvedRecipe) -> None:
    """``answer.json_schema``: rows whose completions it would never let the model say."""
    if resolved.answer is None:
        return
    from edgepeft.guidance.judge import Judge

    judge = Judge(resolved.answer.text)
    for rows in (resolved.train_rows, resolved.test_rows):
        called = next((row for row in rows if row.tools), None)
        if called is not None:
            raise InputError(
                f"answer.json_schema: {called.where} has tools, whose calls no schema of answers lets through; "
                "leave it out, for calls are bounded by the tools' own schemas"
            )
        wrong = [
            (row.where, why)
            for row in rows
            if row.messages is not None and (why := judge.objection(row.completion)) is not None
        ]
        if wrong:
            where, why = wrong[0]
            raise InputError(
                f"answer.json_schema: {len(wrong)} of {len(rows)} rows do not fit it, the first {where} ({why}); "
                "change the schema or the rows"
            )
