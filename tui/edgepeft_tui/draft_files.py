"""Drafts from files and into files: new ones, recipes, the wizard's own sample, and their form when kept."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Container
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from edgepeft.config.loader import load_recipe
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.utils.files import read_text_file
from edgepeft.utils.scalars import TEXT_BYTES, TextProblem
from edgepeft.utils.whole_files import write_text
from edgepeft.utils.yaml_text import read_yaml
from edgepeft_tui.draft import Draft
from edgepeft_tui.raw_recipe import DEFAULT_TARGETS, STEPS, is_sound, spelled_out
from edgepeft_tui.typed_paths import relative, typed_path


def new_draft(folder: Path, taken: Container[str] = ()) -> Draft:
    """An empty draft with the model of the demo and the CPU as device, under a name that is not ``taken``."""
    raw = {"model": "smollm2-135m-instruct", "targets": list(DEFAULT_TARGETS)}
    return Draft(folder, free_name(folder, "run", taken), raw)


def open_draft(path: Path) -> Draft:
    """A recipe file, to be changed and saved again. Raises InputError."""
    load_recipe(path)
    raw = spelled_out(_yaml(path))
    path = path.resolve()
    # Whoever wrote it has chosen what it says, and what it leaves out.
    return Draft(path.parent, path.stem, raw, path, set(STEPS))


def demo_draft(folder: Path, taken: Container[str] = ()) -> Draft:
    """The sample recipe with its data, to be saved in ``folder`` under a name that is not ``taken``.

    Raises EdgepeftError where it is missing.
    """
    recipe = sample_recipe()
    draft = open_draft(recipe)
    draft.move_to(folder)
    draft.name, draft.source = free_name(folder, recipe.stem, taken), None
    return draft


def free_name(folder: Path, wanted: str, taken: Container[str] = ()) -> str:
    """A name that neither a recipe in ``folder`` nor a run has, and that is not ``taken``."""
    names = [wanted, *(f"{wanted}-{number}" for number in range(2, 1000))]
    used = {path.stem for path in folder.glob("*.yaml")}
    used |= {path.name for path in (Path.cwd() / "runs").glob("*")}
    return next((name for name in names if name not in used and name not in taken), wanted)


def sample_recipe() -> Path:
    """The recipe of the demo, which comes with the wizard. Raises EdgepeftError where it is missing."""
    path = (Path(__file__).parent / "samples" / "recipes").resolve() / "home-control.yaml"
    if not path.is_file():
        raise EdgepeftError(f"{path}: the demo's recipe is missing; reinstall edgepeft")
    return path


def replaces(draft: Draft) -> bool:
    """Whether saving would write over a file that the draft was not read from."""
    if draft.name_error() or not draft.path.exists() or draft.path == draft.source:
        return False
    try:
        return draft.path.read_text(encoding="utf-8") != draft.yaml()
    except (OSError, UnicodeDecodeError):
        return True


def save(draft: Draft) -> Path:
    """Write the recipe, unless the file says the same already. Raises InputError."""
    if wrong := draft.name_error():
        raise InputError(wrong)
    try:
        if draft.source == draft.path and _same_recipe(draft.path, draft.raw):
            return draft.path
        write_text(draft.path, draft.yaml())
        load_recipe(draft.path)
    except OSError as error:
        raise InputError(f"{draft.path}: cannot be written ({error.strerror})") from None
    draft.source = draft.path
    return draft.path


def _yaml(path: Path) -> Any:
    """As a build reads it: other readers of YAML take 010 for eight. Raises as its parts."""
    return read_yaml(read_text_file(path, TEXT_BYTES))


def _same_recipe(path: Path, raw: dict[str, Any]) -> bool:
    try:
        written = _yaml(path)
    except (OSError, InputError, TextProblem):
        return False
    return isinstance(written, dict) and spelled_out(written) == raw


def build_arguments(draft: Draft) -> list[str]:
    """The edgepeft arguments that build it."""
    return ["build", _short(draft.path), "--out", _short(draft.run)]


def build_command(draft: Draft) -> str:
    """The command line that does what the wizard would."""
    return shlex.join(["edgepeft", *build_arguments(draft)])


def _short(path: Path) -> str:
    """A path as a user in the working folder would type it."""
    return relative(typed_path(str(path), Path.cwd()) or path, Path.cwd())


def as_json(draft: Draft) -> dict[str, Any]:
    """A draft in JSON form, kept so that a closed terminal loses nothing."""
    return {
        "folder": str(draft.folder),
        "name": draft.name,
        "raw": draft.clean(),
        "source": str(draft.source) if draft.source else None,
        "opened": [step for step in STEPS if step in draft.opened],
        "step": draft.step,
    }


def from_json(kept: object) -> Draft:
    """A draft from its JSON form. Raises InputError for what is none."""
    try:
        form = _Kept.model_validate(kept)
    except ValidationError:
        raise InputError("the kept draft is damaged") from None
    if not is_sound(form.raw) or "\0" in f"{form.folder}{form.source}":
        raise InputError("the kept draft is damaged")
    source = Path(form.source) if form.source else None
    seen = {step for step in STEPS if step in form.opened}
    step = form.step if form.step in STEPS else STEPS[0]
    return Draft(Path(form.folder), form.name, copy.deepcopy(form.raw), source, seen, step)


class _Kept(BaseModel):
    """A draft in JSON form."""

    model_config = ConfigDict(strict=True)

    folder: str
    name: str
    raw: dict[str, Any]
    source: str | None = None
    opened: list[str] = []
    step: str = ""
