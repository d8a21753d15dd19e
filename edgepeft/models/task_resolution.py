"""Which task a recipe is about, and what its labels are, told from the recipe, the model and the rows."""

from __future__ import annotations

from collections.abc import Sequence

from edgepeft.data.rows import Row
from edgepeft.errors import InputError
from edgepeft.models import ModelInfo
from edgepeft.models.sentence_files import has_sentence_files
from edgepeft.models.tasks import (
    CLASSIFICATION,
    EMBEDDING,
    ENCODER_TASKS,
    GENERATION,
    MULTI_LABEL,
    RANKING,
    TAGGING,
    Task,
    task_of_head,
)

_OF_DECODERS: tuple[Task, ...] = (CLASSIFICATION, MULTI_LABEL, RANKING, EMBEDDING)
"""What a decoder does besides: its head over the vocabulary gives way to one over labels, or to none."""


def resolve_task(asked: str, model: ModelInfo, rows: Sequence[Row]) -> Task:
    """The task of a recipe: what it asks for, else what the model's head is for, else what the rows are for.

    Raises InputError where these contradict each other.
    """
    head = task_of_head(model.architecture, model.config)
    supported = _supported(head, model)
    found: Task
    if asked != "auto":
        found = asked  # type: ignore[assignment]  # the recipe lets only tasks through
    elif head == GENERATION and has_sentence_files(model.path) and _are_pairs(rows):
        # Decoders that were made embedding models still name a head over the vocabulary.
        found = EMBEDDING
    elif head == CLASSIFICATION and rows and _task_of_rows(rows[0]) in supported:
        found = _task_of_rows(rows[0])
    elif head is not None:
        found = head
    else:
        found = _task_of_rows(rows[0]) if rows else EMBEDDING
    if model.inside and found != GENERATION:
        raise InputError(
            f"task: the language model inside {model.inside} supports {GENERATION} alone, not {found}"
        )
    if found not in supported:
        raise InputError(
            f"task: {model.architecture} does not support {found}; it supports "
            f"{_listed(supported)} (auto goes by its head or the columns of the rows)"
        )
    _check_columns(found, rows)
    return found


def _supported(head: Task | None, model: ModelInfo) -> tuple[str, ...]:
    """The tasks that a model with this head does."""
    if head is None:
        return tuple(ENCODER_TASKS)
    if head == GENERATION:
        return (GENERATION, *_OF_DECODERS)
    if head == CLASSIFICATION and model.config.get("problem_type") is None:
        # Nothing says whether the labels of such a head exclude each other.
        return (CLASSIFICATION, MULTI_LABEL)
    return (head,)


def _listed(tasks: Sequence[str]) -> str:
    if len(tasks) == 1:
        return f"{tasks[0]} alone"
    return f"{', '.join(tasks[:-1])} and {tasks[-1]}"


def _are_pairs(rows: Sequence[Row]) -> bool:
    return bool(rows) and rows[0].positive is not None


def _task_of_rows(row: Row) -> Task:
    kinds: dict[Task, object] = {
        RANKING: row.score,
        MULTI_LABEL: row.labels,
        CLASSIFICATION: row.label,
        TAGGING: row.tags,
        EMBEDDING: row.positive,
    }
    return next((task for task, value in kinds.items() if value is not None), GENERATION)


def _check_columns(task: Task, rows: Sequence[Row]) -> None:
    """Every row must have what its task learns. Raises InputError naming the row."""
    if task == GENERATION:
        for row in rows:
            if row.pair is not None or _task_of_rows(row) not in (GENERATION, CLASSIFICATION):
                raise InputError(
                    f"{row.where}: rows of tags, pairs, scores or lists of labels are for encoders; text "
                    "generation needs messages, prompt and completion, or text"
                )
        return
    *first, last = ENCODER_TASKS[task].columns
    for row in rows:
        if _task_of_rows(row) != task:
            raise InputError(
                f"{row.where}: {task} needs {', '.join(first)} and {last} in every row{_MEANT.get(task, '')}; "
                "name the columns in data.columns"
            )
        if (row.pair is None) != (rows[0].pair is None):
            has, lacks = (row, rows[0]) if row.pair is not None else (rows[0], row)
            raise InputError(
                f"{lacks.where}: has no text_pair, and {has.where} has one; give every row a second text, or none"
            )


_MEANT = {
    CLASSIFICATION: " (a label is a name or a whole number)",
    MULTI_LABEL: " (labels is a list)",
    RANKING: " (score, or label, is a number)",
}


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
    if task == GENERATION or not ENCODER_TASKS[task].labelled:
        return []
    seen = {label for row in train for label in _labels(row)}
    if task == MULTI_LABEL and train and not seen:
        raise InputError(
            f"{train[0].where}: labels: is empty here and in every other training row, so there is nothing to "
            "learn; list the labels of each text"
        )
    head = task_of_head(model.architecture, model.config)
    own = _own_labels(model) if head not in (None, GENERATION) else []
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
    if row.labels is not None:
        return row.labels
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
