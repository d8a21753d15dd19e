"""The adapters of a hot-swap bundle: one folder each, opened without touching any other.

``adapters/NAME`` holds the factors as onnxruntime's adapter file, which runtimes map into memory, and a manifest
that binds it to the bundle. No file lists the adapters: what is there is what lies there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edgepeft.bundle.files import DISTRUST, DamagedError, compare
from edgepeft.bundle.layout import ADAPTER_NAME, ADAPTERS
from edgepeft.bundle.listing import refuse_strays, unlisted
from edgepeft.bundle.manifest import MANIFEST, expected_files, gates_of, read_adapter_manifest
from edgepeft.errors import InputError, unknown_name
from edgepeft.runtime.slots import binding, refuse_merged, takes_adapters

if TYPE_CHECKING:
    from edgepeft.runtime.bundle import Bundle, Check

FACTORS = "adapter.onnx_adapter"
BASE = "base"
"""What the bundle without an adapter is called where adapters are called by name."""


@dataclass(frozen=True)
class BundleAdapter:
    """One adapter of a bundle, looked over; ``factors`` is onnxruntime's file and ``bytes`` its size.

    ``gates`` is None where the adapter was never measured in this bundle, else as a bundle's.
    """

    name: str
    path: Path
    factors: Path
    bytes: int
    facts: Mapping[str, Any]
    gates: tuple[str, ...] | None

    @property
    def warning(self) -> str | None:
        """One line for whoever is about to use this adapter, or None when it passed its gates."""
        if self.gates:
            return f"{self.path}: failed its fidelity gates: {'; '.join(self.gates)}"
        return None


def check_name(name: str) -> None:
    """Raise InputError where ``name`` can't be an adapter's: it is a folder's name, and a model's when served."""
    if not ADAPTER_NAME.fullmatch(name) or name.casefold() == BASE:
        raise InputError(
            f"{name!r}: not a name for an adapter; letters, digits, '.', '_' and '-' make one ({BASE} is taken)"
        )


def adapter_folder(bundle: Bundle, name: str) -> Path:
    """Where an adapter of that name lies or would lie. Raises InputError for a name that is none."""
    check_name(name)
    return bundle.path / ADAPTERS / name


def adapter_names(bundle: Bundle) -> list[str]:
    """The adapters of a bundle in order; none for a bundle whose adapter is merged."""
    folder = bundle.path / ADAPTERS
    if not takes_adapters(bundle) or not folder.is_dir():
        return []
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if ADAPTER_NAME.fullmatch(entry.name) and (entry / MANIFEST).is_file()
    )


def open_adapter(bundle: Bundle, name: str, *, check: Check = "sizes") -> BundleAdapter:
    """Open and check one adapter. Raises InputError for one that is unknown or of another bundle, DamagedError
    for one that isn't as its manifest says.

    ``check`` is as ``Bundle.open``'s; links, and files that its manifest doesn't list, are refused whatever it
    says.
    """
    refuse_merged(bundle)
    folder = bundle.path / ADAPTERS / name
    where = folder / MANIFEST
    # Looking at one folder costs the same beside two adapters as beside two thousand.
    if not (ADAPTER_NAME.fullmatch(name) and where.is_file()):
        known = [BASE, *adapter_names(bundle)]
        raise unknown_name(str(bundle.path / ADAPTERS), "adapter", name, known)
    for place in (folder.parent, folder, where):
        if place.is_symlink():
            raise InputError(f"{place}: a symbolic link; {DISTRUST}")
    manifest = read_adapter_manifest(where)
    facts = manifest["result"]
    listed = expected_files(manifest, where)
    if FACTORS not in listed:
        raise DamagedError(f"{where}: lists no {FACTORS}; add the adapter again")
    if facts["binding"] != binding(bundle):
        raise InputError(
            f"{folder}: was made for another base than {bundle.path}; add the adapter again"
        )
    refuse_strays(folder, listed, besides=(MANIFEST,))
    for file, expected in listed.items():
        if check != "none":
            compare(folder, file, expected, hashes=check == "hashes")
    return BundleAdapter(
        name=name,
        path=folder,
        factors=folder / FACTORS,
        bytes=listed[FACTORS].size,
        facts=facts,
        gates=gates_of(manifest),
    )


def unlisted_files(bundle: Bundle) -> list[str]:
    """Every file in a bundle's folder that no manifest lists, by its path: neither its own nor an adapter's.

    Raises InputError for a folder or an adapter's manifest that can't be read.
    """
    own = bundle.manifest["outputs"]
    names = adapter_names(bundle)
    besides = (MANIFEST, *(f"{ADAPTERS}/{name}" for name in names))
    found = list(unlisted(bundle.path, own, besides=besides))
    for name in names:
        folder = bundle.path / ADAPTERS / name
        listed = expected_files(read_adapter_manifest(folder / MANIFEST), folder / MANIFEST)
        strays = unlisted(folder, listed, besides=(MANIFEST,))
        found += [f"{ADAPTERS}/{name}/{stray}" for stray in strays]
    return found


def hold(adapter: BundleAdapter) -> IO[bytes]:
    """Mark an adapter as in use, for every process, until the returned file is closed.

    Raises InputError where it is being removed at this moment.
    """
    try:
        handle = (adapter.path / MANIFEST).open("rb")
    except OSError:
        raise InputError(f"{adapter.path}: has been removed") from None
    if not _locked(handle, shared=True):
        handle.close()
        raise InputError(f"{adapter.path}: is being removed")
    return handle


@contextlib.contextmanager
def unused(folder: Path) -> Iterator[None]:
    """Keep an adapter's folder from coming into use meanwhile. Raises InputError where it is in use."""
    with (folder / MANIFEST).open("rb") as handle:
        if not _locked(handle, shared=False):
            raise InputError(
                f"{folder}: is in use; unload it, or stop what serves it, and try again"
            )
        yield


def _locked(handle: IO[bytes], *, shared: bool) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows keeps files that are mapped from being removed by itself
        return True
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
