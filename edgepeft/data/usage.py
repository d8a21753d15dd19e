"""What of a data file is used, and what is not: told once for a file, or refused with the row that shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgepeft.data.fields import Field, Use, says_nothing
from edgepeft.errors import InputError

_SHOWN = 8
"""Fields that a warning names; `edgepeft data` lists all."""


class Usage:
    """What becomes of the fields of one file, by their name: a column, or ``messages[].key``."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._used: dict[str, None] = {}
        self._harmless: dict[str, None] = {}
        self._unused: dict[str, tuple[str, int, str]] = {}

    def take(self, name: str, value: Any, field: Field, where: str) -> bool:
        """Note a field of a row; whether it is used. Raises InputError for one that is refused."""
        if says_nothing(value):
            return False
        if field.use is Use.refused and (field.refuses is None or field.refuses(value)):
            raise InputError(f"{where}: {name}: {field.why}; {field.mend}")
        if field.use is Use.used:
            self._used.setdefault(name)
            return True
        if field.use is Use.unused:
            self.leave_out(name, field.why, where)
        else:
            self._harmless.setdefault(name)
        return False

    def leave_out(self, name: str, why: str, where: str) -> None:
        """Note something of a row that is not used."""
        _, count, first = self._unused.get(name, (why, 0, where))
        self._unused[name] = (why, count + 1, first)

    def as_dict(self) -> dict[str, Any]:
        """The fields ``used``, ``harmless`` (they say nothing of what is learned) and ``unused``, each of these
        with ``field``, ``why``, the number of ``rows`` and the ``first`` of them.
        """
        unused = [
            {"field": name, "why": why, "rows": count, "first": first}
            for name, (why, count, first) in self._unused.items()
        ]
        return {"used": list(self._used), "harmless": list(self._harmless), "unused": unused}

    def warnings(self) -> list[str]:
        """What is not used, in one line; empty where everything is, or says nothing."""
        if not self._unused:
            return []
        told = [f"{name} ({why})" for name, (why, _, _) in list(self._unused.items())[:_SHOWN]]
        more = len(self._unused) - len(told)
        rest = f" and {more} more" if more > 0 else ""
        return [f"{self.file}: not used: {', '.join(told)}{rest}"]


def take_columns(
    usage: Usage, record: Mapping[str, Any], fields: Mapping[str, Field], where: str
) -> None:
    """Note the columns of a row. Raises InputError for one that is refused."""
    for name, value in record.items():
        usage.take(name, value, fields[name], where)


def warnings_of(usages: Iterable[Usage]) -> list[str]:
    """What several files have that is not used."""
    return [warning for usage in usages for warning in usage.warnings()]
