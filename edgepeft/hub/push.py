"""A bundle's files put into a repository of the hub, as they lie there."""

from __future__ import annotations

import contextlib
import glob
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepeft.errors import InputError, MissingError
from edgepeft.hub.errors import LOGIN, refused
from edgepeft.hub.ids import RepoId
from edgepeft.utils.hub_progress import quiet_client, upload_bars

_ABOUT = (".gitattributes", "README.md", "LICENSE")
"""Files of a repository that are nobody's model."""


@dataclass(frozen=True)
class Pushed:
    """Where files went: the commit on the branch ``revision``, ``url`` is its page."""

    repo: str
    revision: str
    commit: str
    url: str
    private: bool
    files: int
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def _check_token(target: RepoId) -> None:
    """Raise InputError, MissingError where nothing could be uploaded from here."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise MissingError(f"push: {target.repo}: HF_HUB_OFFLINE is set; unset it to upload")
    if get_token() is None:
        raise InputError(f"push: {target.repo}: there is no token; {LOGIN}, to one that may write")


def push_files(
    folder: Path,
    files: Sequence[str],
    target: RepoId,
    *,
    manifest: str,
    private: bool,
    force: bool,
    message: str,
    tell: Callable[[str], None],
) -> Pushed:
    """Upload ``files`` of a folder to a repository, which is made if need be, and its branch too.

    What an earlier upload left there, by the ``manifest`` that came with it, and is not among the files, is
    removed. ``force`` uploads beside files of other origin. Raises InputError, MissingError, EdgepeftError.
    """
    from huggingface_hub import HfApi, constants

    _check_token(target)
    quiet_client(bars=False)
    with _refusals(target):
        api = HfApi()
        hidden, names = _existing(api, target)
        if private and hidden is False:
            raise InputError(
                f"push: {target.repo}: is there already and public; make it private on its page, or leave out "
                "--private"
            )
        others = [name for name in names if name not in _ABOUT]
        if others and manifest not in names and not force:
            raise InputError(
                f"push: {target}: holds files that are no bundle ({', '.join(others[:3])}); choose another name "
                "or --revision, or upload beside them with --force"
            )
        stale = _stale(target, manifest, names, files)
        if hidden is None:
            api.create_repo(target.repo, private=True if private else None, exist_ok=True)
            hidden = private
        branch = target.revision or constants.DEFAULT_REVISION
        if target.revision is not None:
            api.create_branch(target.repo, branch=branch, exist_ok=True)
        size = sum((folder / file).stat().st_size for file in files)
        tell(
            f"uploading {len(files)} files, {size / 1e6:.1f} MB, to {constants.ENDPOINT}/{target.repo}"
        )
        with upload_bars():
            done = api.upload_folder(
                repo_id=target.repo,
                folder_path=folder,
                revision=branch,
                commit_message=message,
                allow_patterns=[glob.escape(file) for file in files],
                delete_patterns=[glob.escape(file) for file in stale] or None,
            )
        url = f"{constants.ENDPOINT}/{target.repo}/tree/{branch}"
        return Pushed(target.repo, branch, done.oid, url, hidden, len(files), size)


@contextlib.contextmanager
def _refusals(target: RepoId) -> Iterator[None]:
    """What the hub refuses in the context is raised as a line of ours."""
    try:
        yield
    except Exception as error:  # the client raises many kinds, of its own and of others
        raise refused(error, target, f"push: {target}") from None


def _existing(api: Any, target: RepoId) -> tuple[bool | None, list[str]]:
    """Whether a repository is private, None where there is none yet, and the files on its branch."""
    from huggingface_hub import errors

    try:
        found = api.model_info(target.repo)
    except errors.RepositoryNotFoundError:
        return None, []
    try:
        return bool(found.private), api.list_repo_files(target.repo, revision=target.revision)
    except errors.RevisionNotFoundError:
        # A branch that is made begins as the main one is.
        return bool(found.private), api.list_repo_files(target.repo)


def _stale(target: RepoId, manifest: str, names: Sequence[str], files: Sequence[str]) -> list[str]:
    """The files of an earlier upload that the one to come does not have."""
    from huggingface_hub import errors, hf_hub_download

    if manifest not in names:
        return []
    listed: set[str] = set()
    for name in names:
        if name.rpartition("/")[2] != manifest:
            continue
        try:
            path = hf_hub_download(target.repo, name, revision=target.revision)
        except errors.RevisionNotFoundError:
            path = hf_hub_download(target.repo, name)
        try:
            outputs = json.loads(Path(path).read_text("utf-8"))["outputs"]
        except (ValueError, KeyError, TypeError):
            continue
        place = name.removesuffix(manifest)
        listed |= {f"{place}{output}" for output in outputs} | {name}
    return sorted(listed & set(names) - set(files))
