"""What the hub refuses, each as one line with its mend.

Written for huggingface_hub 1.0 to 2.4, whose client was requests', httpx's and httpx2's in turn: connections that
fail are told by the name of their class, which is alike in all three.
"""

from __future__ import annotations

from edgepeft.errors import EdgepeftError, InputError, MissingError, nearest, one_line
from edgepeft.hub.ids import RepoId

_UNREACHABLE = {"TransportError", "ConnectionError", "Timeout"}
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
_NAMED = 12
"""Names of a repository that an error lists."""


def unreachable(error: BaseException) -> bool:
    """Whether the hub could not be asked: offline mode, or no connection."""
    return any(kind.__name__ in _UNREACHABLE for kind in type(error).__mro__)


def refused(error: Exception, asked: RepoId, subject: str) -> Exception:
    """The error to raise in place of one of the hub's client; ``subject`` is what the user wrote, with its key.

    What is no refusal of the hub's, a full disk say, is handed back as it is.
    """
    from huggingface_hub import constants, errors, get_token

    cause = error.__cause__
    if isinstance(error, errors.LocalEntryNotFoundError):
        # It stands for whatever kept the client from the hub, and says so in several sentences.
        if isinstance(cause, errors.HfHubHTTPError):
            return refused(cause, asked, subject)
        return _offline(cause, asked, subject)
    if unreachable(error):
        return _offline(error, asked, subject)
    page = f"{constants.ENDPOINT}/{asked.page}"
    known = get_token() is not None
    if isinstance(error, errors.GatedRepoError):
        if known:
            mend = f"the account of your token has no access; ask for it at {page}"
        else:
            mend = f"accept its terms at {page}, then {LOGIN}"
        return InputError(f"{subject}: is gated: {mend}")
    # Nobody in particular is answered 401 for what is private and for what is not there.
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    if isinstance(error, errors.RepositoryNotFoundError) or (status == 401 and not known):
        if known:
            mend = "or your token may not see it; check the spelling (a path's too), or use one that may"
        else:
            mend = f"that is public; check the spelling (a path's too), or if it is private {LOGIN}"
        return InputError(f"{subject}: the hub has no such {asked.kind} {mend}")
    if isinstance(error, errors.RevisionNotFoundError):
        return _no_revision(asked, subject)
    if isinstance(error, errors.HFValidationError):
        return InputError(f"{subject}: not an id of the hub ({one_line(error).rstrip('.')})")
    if isinstance(error, errors.HfHubHTTPError):
        return _answered(status, subject, one_line(error.server_message or ""))
    return error


def _offline(error: BaseException | None, asked: RepoId, subject: str) -> EdgepeftError:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return MissingError(
            f"{subject}: the hub's cache ({constants.HF_HUB_CACHE}) does not hold it whole, and HF_HUB_OFFLINE "
            "is set; unset it to download, or name a local path"
        )
    reason = f" ({one_line(error)[:100]})" if error is not None and str(error) else ""
    return MissingError(
        f"{subject}: {constants.ENDPOINT} can't be reached{reason}, and the cache does not hold it whole; check "
        "the network and HF_ENDPOINT, or name a local path"
    )


def _no_revision(asked: RepoId, subject: str) -> EdgepeftError:
    """The line for a branch, tag or commit that is not there, with those that are."""
    from huggingface_hub import HfApi

    wanted = asked.revision or "main"
    try:
        refs = HfApi().list_repo_refs(asked.repo, repo_type=asked.kind)
        names = [ref.name for ref in (*refs.branches, *refs.tags)]
    except Exception:  # the refusal matters more than what would have been right
        names = []
    return InputError(
        f"{subject}: {asked.repo} has no revision {wanted}{said_of(wanted, names)}; name a branch, tag or commit"
    )


def said_of(wanted: str, names: list[str]) -> str:
    """``; did you mean …? it has …`` of the names that there are; empty where none are known."""
    if not names:
        return ""
    near = nearest(wanted, names)
    hint = f"; did you mean {near}?" if near else ""
    more = f" … ({len(names)} in all)" if len(names) > _NAMED else ""
    return f"{hint}; it has {', '.join(names[:_NAMED])}{more}"


def _answered(status: int, subject: str, said: str) -> EdgepeftError:
    """The line for an answer of the hub that has no class of its own."""
    why = f" ({said[:160]})" if said else ""
    if status == 401:
        return InputError(f"{subject}: the hub does not accept your token{why}; {LOGIN}")
    if status == 403:
        return InputError(
            f"{subject}: the hub forbids this to your token{why}; use a token that has the permission"
        )
    if status == 429:
        return MissingError(f"{subject}: the hub has had too many requests{why}; try again later")
    if status >= 500:
        return MissingError(f"{subject}: the hub answered {status}{why}; try again later")
    return EdgepeftError(f"{subject}: the hub answered {status}{why}")
