"""``--junit`` and ``--summary``: files for build servers, written whatever becomes of the command."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgepeft.cli.streams import say

if TYPE_CHECKING:
    # Verdicts need pydantic, which --help has no use for.
    from edgepeft.evaluation.verdicts import Verdict

JunitOption = Annotated[
    Path | None,
    typer.Option(
        "--junit",
        metavar="FILE",
        help="Write the gates of each bundle as JUnit XML, also where one is missed.",
    ),
]
SummaryOption = Annotated[
    Path | None,
    typer.Option(
        "--summary",
        metavar="FILE",
        help="Append a table of the bundles in Markdown, with what was missed and what to try; "
        'as "$GITHUB_STEP_SUMMARY".',
    ),
]


@dataclass
class Report:
    """What the files will say."""

    verdicts: list[Verdict] = field(default_factory=list)

    def add_bundles(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add entries of ``build --json``."""
        from edgepeft.evaluation.verdicts import verdict_of

        self.verdicts += [verdict_of(entry) for entry in entries]

    def add_sealed(self, bundle: Path, target: str) -> None:
        """Add a finished bundle where it lies."""
        from edgepeft.evaluation.verdicts import sealed_verdict

        self.verdicts.append(sealed_verdict(bundle, target))

    def add_compared(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add what ``edgepeft compare`` measured: each variant under its values."""
        from edgepeft.evaluation.verdicts import verdict_of
        from edgepeft.pipeline.compare import label

        for entry in entries:
            name = label(entry["values"])
            if "error" in entry:
                self.add_failure(name, entry["error"])
            else:
                self.verdicts.append(verdict_of(entry, name))

    def add_failure(self, name: str, error: str) -> None:
        """Add something that did not become a bundle."""
        from edgepeft.evaluation.verdicts import Verdict

        self.verdicts.append(Verdict(name, error=error))


@contextmanager
def reporting(junit: Path | None, summary: Path | None, name: str) -> Iterator[Report]:
    """A report that is written at the end, also where an error ends the command; ``name`` is what is built.

    Raises InputError before anything begins where a file can't be written.
    """
    from edgepeft.errors import EdgepeftError, GateError, outcome_of
    from edgepeft.utils.whole_files import require_writable

    for path in (junit, summary):
        if path is not None:
            require_writable(path)
    report, started = Report(), time.monotonic()
    try:
        yield report
    except BaseException as error:
        if not isinstance(error, GateError) and not any(one.error for one in report.verdicts):
            report.add_failure("run", outcome_of(error).line)
        try:
            _write(report, junit, summary, name, time.monotonic() - started)
        except EdgepeftError as unwritten:
            # What ended the command is what it ends with.
            say(str(unwritten), err=True)
        raise
    _write(report, junit, summary, name, time.monotonic() - started)


def refuse_reports(junit: Path | None, summary: Path | None) -> None:
    """Raise InputError where reports are asked for and nothing is measured."""
    from edgepeft.errors import InputError

    for option, path in (("--junit", junit), ("--summary", summary)):
        if path is not None:
            raise InputError(f"{option}: a dry run measures nothing; leave it out")


def _write(
    report: Report, junit: Path | None, summary: Path | None, name: str, seconds: float
) -> None:
    if junit is None and summary is None:
        return
    from edgepeft.evaluation.job_summary import summary_of
    from edgepeft.evaluation.junit import junit_xml
    from edgepeft.utils.whole_files import append_text, write_text

    if junit is not None:
        write_text(junit, junit_xml(name, report.verdicts, seconds))
    if summary is not None:
        append_text(summary, summary_of(name, report.verdicts, seconds))
