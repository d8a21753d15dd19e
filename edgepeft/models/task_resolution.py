"""Which task a recipe is about, and what its labels are, told from the recipe, the model and the rows."""

from __future__ import annotations

from collections.abc import Sequence

from edgepeft.data.rows import Row
from edgepeft.errors import InputError
from edgepeft.models import ModelInfo
from edgepeft.models.tasks import (
    CLASSIFICATION,
    EMBEDDING,
    ENCODER_TASKS,
    GENERATION,
    TAGGING,
    Task,
    head_of,
)


def resolve_task(asked: str, model: ModelInfo, rows: Sequence[Row]) -> Task:
    """The task of a recipe: what it asks for, else what the model's head is for, else what the rows are for.

    Raises InputError where these contradict each other.
    """
    head = head_of(model.architecture)
    found: Task
    if asked != "auto":
        found = asked  # type: ignore[assignment]  # the recipe lets only tasks through
    elif head is not None:
        found = head
    else:
        found = _task_of_rows(rows[0]) if rows else EMBEDDING
    if model.inside and found != GENERATION:
        raise InputError(
            f"task: the language model inside {model.inside} supports {GENERATION} alone, not {found}"
        )
    # A decoder's head over the vocabulary gives way to one over labels where that is asked for.
    rescored = head == GENERATION and found == CLASSIFICATION
    if not rescored and (head not in (None, found) or (head is None and found == GENERATION)):
        can = f"{head} alone" if head else ", ".join(ENCODER_TASKS)
        if head == GENERATION:
            can = f"{GENERATION} and {CLASSIFICATION}"
        raise InputError(
            f"task: {model.architecture} does not support {found}; it supports {can} (auto goes by its head or "
            "the columns of the rows)"
        )
    _check_columns(found, rows)
    return found


def _task_of_rows(row: Row) -> Task:
    if row.label is not None:
        return CLASSIFICATION
    if row.tags is not None:
        return TAGGING
    if row.positive is not None:
        return EMBEDDING
    return GENERATION


def _check_columns(task: Task, rows: Sequence[Row]) -> None:
    """Every row must have what its task learns. Raises InputError naming the row."""
    if task == GENERATION:
        wrong = next(
            (row for row in rows if row.tags is not None or row.positive is not None), None
        )
        if wrong is not None:
            raise InputError(
                f"{wrong.where}: rows of tags or pairs are for encoders; text generation needs messages, prompt "
                "and completion, or text"
            )
        return
    wanted = ENCODER_TASKS[task].columns
    for row in rows:
        if _task_of_rows(row) != task:
            raise InputError(
                f"{row.where}: {task} needs {' and '.join(wanted)} in every row (a label is a name or a whole "
                "number); name the columns in data.columns"
            )


def labels_of(
    task: Task,
    model: ModelInfo,
    declared: Sequence[str],
    train: Sequence[Row],
    test: Sequence[Row],
) -> list[str]:
    """The names of a classifier's outputs, in their order; empty for other tasks.

    ``declared`` are the recipe's; else the model's own, if its head is for this task and has names; else those of
    the training rows, sorted. Raises InputError, naming the row, for a row whose label is not among them.
    """
    if task not in (CLASSIFICATION, TAGGING):
        return []
    seen = {label for row in train for label in _labels(row)}
    own = _own_labels(model) if head_of(model.architecture) == task else []
    if declared:
        labels, source = list(declared), "data.labels"
    elif own and not (_unnamed(own) and len(seen) == len(own)):
        labels, source = own, "the model's labels"
    elif seen:
        labels, source = sorted(seen, key=_order), "the labels of data.train"
    else:
        raise InputError(
            "data.labels: this key is required where neither the model nor training rows name the labels"
        )
    if own and len(own) != len(labels):
        raise InputError(
            f"data.labels: {len(labels)} labels, and the model's head has {len(own)}; use the model's labels, or "
            "a model without a head"
        )
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise InputError(f"data.labels: needs at least two different labels (got {labels})")
    for row in (*train, *test):
        unknown = next((label for label in _labels(row) if label not in labels), None)
        if unknown is not None:
            known = ", ".join(labels[:12]) + (" ..." if len(labels) > 12 else "")
            raise InputError(
                f"{row.where}: the label {unknown!r} is not among {source} ({known}); correct the row, or list "
                "all labels in data.labels"
            )
    return labels


def _labels(row: Row) -> tuple[str, ...]:
    return row.tags if row.tags is not None else (row.label or "",)


def _own_labels(model: ModelInfo) -> list[str]:
    named = model.config.get("id2label")
    if not isinstance(named, dict):
        # transformers leaves two classes without names out of a configuration.
        return ["LABEL_0", "LABEL_1"]
    try:
        return [str(named[key]) for key in sorted(named, key=int)]
    except ValueError:
        raise InputError(
            f"{model.path / 'config.json'}: id2label must map numbers to names"
        ) from None


def _unnamed(labels: Sequence[str]) -> bool:
    return all(label.startswith("LABEL_") for label in labels)


def _order(label: str) -> tuple[bool, int, str]:
    """Numbers by their size, ``O`` (no tag) before other names."""
    return (not label.isdecimal() and label != "O", int(label) if label.isdecimal() else -1, label)
