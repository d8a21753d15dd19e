"""Adding to a file that others write to as well: all of what is added, or none of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from edgepeft.utils.terminal_text import ENCODING_ERRORS
from edgepeft.utils.whole_files import writing_failed


def append_text(path: Path, text: str) -> None:
    """Add text in UTF-8 to the end of a file, which is made where there is none; all of it, or none.

    What others have open stays the same file. Raises EdgepeftError.
    """
    path = Path(os.path.realpath(path))
    try:
        with path.open("ab") as stream:
            before = os.fstat(stream.fileno()).st_size
            try:
                stream.write(text.encode("utf-8", ENCODING_ERRORS))
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(stream.fileno(), before)
                raise
    except OSError as error:
        raise writing_failed(path, error, begun=True) from None
