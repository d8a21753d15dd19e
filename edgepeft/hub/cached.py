"""The models that lie in the hub's cache on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CachedModel:
    """A model of the cache at one commit; ``revisions`` are the branches and tags that stood for it."""

    repo: str
    commit: str
    revisions: tuple[str, ...]
    path: Path
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "path": str(self.path), "revisions": list(self.revisions)}


def cached_models() -> list[CachedModel]:
    """Models in the cache that have weights that are read here, by name; none where there is no cache."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        cache = scan_cache_dir()
    except (CacheNotFound, OSError, ValueError):
        return []
    found = [
        CachedModel(
            repo.repo_id,
            revision.commit_hash,
            tuple(sorted(revision.refs)),
            revision.snapshot_path,
            revision.size_on_disk,
        )
        for repo in cache.repos
        if repo.repo_type == "model"
        for revision in repo.revisions
        if _is_model(revision.snapshot_path)
    ]
    return sorted(found, key=lambda one: (one.repo, one.revisions, one.commit))


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
