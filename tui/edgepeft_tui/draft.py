"""The recipe being made: values as typed, what is wrong with them in the CLI's words, and the YAML it becomes."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from edgepeft.errors import EdgepeftError, InputError
from edgepeft.recipe_file import load_recipe, parse_value, problems_of
from edgepeft_tui.fields import Field, all_fields, field_at, shown
from edgepeft_tui.raw_recipe import (
    DEFAULT_TARGETS,
    STEPS,
    put_value,
    shortened,
    spelled_out,
    step_of,
    value_at,
)


@dataclass
class Draft:
    """A recipe in the making. Its paths are relative to ``folder``, where it will be saved as ``name``.yaml.

    ``raw`` holds only what differs from saying nothing; ``trouble`` is the last error that planning it met (key
    or "", and its text), ``planned`` whether the values as they are have been planned without one.
    """

    folder: Path
    name: str = "run"
    raw: dict[str, Any] = field(default_factory=dict)
    source: Path | None = None
    trouble: tuple[str, str] | None = None
    planned: bool = False

    @classmethod
    def new(cls, folder: Path) -> Draft:
        """An empty draft with the model of the demo and the CPU as device."""
        raw = {"model": "smollm2-135m-instruct", "targets": list(DEFAULT_TARGETS)}
        return cls(folder, _free_name(folder, "run"), raw)

    @classmethod
    def demo(cls, folder: Path) -> Draft:
        """The sample recipe with its data, to be saved in ``folder``."""
        recipe = sample_recipe()
        draft = cls.open(recipe)
        draft.move_to(folder)
        draft.name, draft.source = _free_name(folder, recipe.stem), None
        return draft

    @classmethod
    def open(cls, path: Path) -> Draft:
        """A recipe file, to be changed and saved again. Raises InputError."""
        load_recipe(path)
        raw = spelled_out(yaml.safe_load(path.read_text(encoding="utf-8")))
        path = path.resolve()
        return cls(path.parent, path.stem, raw, path)

    def move_to(self, folder: Path) -> None:
        """Save elsewhere: paths that lead to something are rewritten so that they still do."""
        for key in self._path_keys():
            value = self.get(key)
            if isinstance(value, str):
                target = (self.folder / Path(value).expanduser()).resolve()
                if target.exists():
                    self._put(key, _relative(target, folder))
        self.folder = folder

    def __post_init__(self) -> None:
        """The values in the form that the fields work on."""
        self.raw = spelled_out(self.raw)

    # -- values ------------------------------------------------------------------------------------------

    def get(self, key: str) -> Any:
        """The value at a key, None where nothing is said."""
        return value_at(self.raw, key)

    def text(self, key: str) -> str:
        """The value at a key as typed into a field; empty where nothing is said."""
        value = self.get(key)
        return value if isinstance(value, str) else shown(value)

    def set_text(self, spec: Field, text: str) -> None:
        """Put what was typed for a field; empty text takes the key away, so that its default holds."""
        value = text if spec.literal else parse_value(text)
        # No adapter yet is not the same as an adapter to be trained.
        nothing = "" if spec.key == "adapter" else None
        self._put(spec.key, nothing if not text.strip() else value)

    def set_path(self, key: str, path: Path) -> None:
        """Put a path, relative to the draft's folder where it lies below it."""
        self._put(key, _relative(path.resolve(), self.folder))

    def put(self, key: str, value: Any) -> None:
        """Put a value of the recipe; None takes the key away."""
        self._put(key, value)

    def _put(self, key: str, value: Any) -> None:
        put_value(self.raw, key, value)
        spelled_out(self.raw)
        self.trouble, self.planned = None, False

    @property
    def targets(self) -> list[str]:
        """Names of the targets in the recipe."""
        listed = self.raw.get("targets", [{"name": name} for name in DEFAULT_TARGETS])
        return [str(item.get("name", "")) for item in listed or [] if isinstance(item, dict)]

    def toggle_target(self, name: str) -> None:
        """Add a target, or take it away."""
        listed = self.raw.get("targets", [{"name": name} for name in DEFAULT_TARGETS]) or []
        # What a recipe says of its other targets stays as it is.
        kept = [item for item in listed if item.get("name") != name]
        self._put("targets", kept if len(kept) < len(listed) else [*listed, {"name": name}])

    def parts(self, listed: str) -> int:
        """How many parts a list of sections has."""
        named = self.raw.get(listed)
        return len(named) if isinstance(named, list) else 0

    def add_part(self, listed: str) -> None:
        """Room for one more part of a list of sections."""
        self._put(listed, [*(self.raw.get(listed) or []), {}])

    def drop_part(self, listed: str) -> None:
        """Take the last part of a list of sections away, and an empty list with it."""
        self._put(listed, (self.raw.get(listed) or [])[:-1] or None)

    @property
    def swaps(self) -> bool:
        """Whether a target takes adapters that are chosen while it runs."""
        listed = self.raw.get("targets") or []
        return any(isinstance(t, dict) and t.get("adapters") == "hot-swap" for t in listed)

    @property
    def adapters(self) -> int:
        """How many adapters are named that exist; 0 where one is trained."""
        named = self.raw.get("adapter")
        return len(named) if isinstance(named, list) else int(named is not None)

    def add_adapter(self) -> None:
        """Room for one more adapter, to be combined with those there are."""
        named = self.raw.get("adapter")
        if not isinstance(named, list):
            named = [{"path": named} if named else {}]
        self._put("adapter", [*named, {}])

    def drop_adapter(self) -> None:
        """Take the last of several adapters away; a single one is no list, and needs no way to combine."""
        named = self.raw.get("adapter")
        if isinstance(named, list):
            kept = named[:-1]
            self._put("adapter", kept if len(kept) > 1 else kept[0].get("path", ""))
            if len(kept) == 1:
                self._put("combine", None)

    def use_adapter(self, path: Path | str | None) -> None:
        """Take an adapter that exists instead of training one; None goes back to training."""
        if path is None:
            self._put("adapter", None)
            self._put("combine", None)
            return
        for section in ("method", "training"):
            self.raw.pop(section, None)
        if isinstance(path, Path):
            self.set_path("adapter", path)
        else:
            self._put("adapter", path)

    @property
    def trains(self) -> bool:
        """Whether an adapter is trained, rather than one used that exists."""
        return "adapter" not in self.raw

    # -- what is wrong -----------------------------------------------------------------------------------

    def errors(self) -> dict[str, str]:
        """Key to what is wrong there, in the words of the command line; "" for what belongs to no field."""
        found = {_field_key(key): text for key, text in problems_of(self.clean()).items()}
        if self.trouble is not None:
            found.setdefault(*self.trouble)
        return found

    def note_failure(self, line: str) -> None:
        """Keep the error line of a command that was given this draft, at the field it speaks of."""
        text = line.removeprefix("stdin: ")
        self.trouble, self.planned = (self._key_in(text), text), False

    def _key_in(self, text: str) -> str:
        keys = sorted(all_fields(), key=len, reverse=True)
        start = _field_key(text.partition(": ")[0])
        if field_at(start) is not None:
            return start
        for key in self._path_keys():
            value = self.get(key)
            if isinstance(value, str) and value and str(self.resolve(value)) in text:
                return key
        if self.raw.get("adapter") == "" and str(self.folder.resolve()) in text:
            return "adapter"
        return next((key for key in keys if "." in key and key in text), "")

    def _path_keys(self) -> list[str]:
        """The keys that may hold a path."""
        listed = [
            f"{name}.{index}.{key}"
            for name, keys in _PATHS_OF_PARTS.items()
            for index in range(self.parts(name))
            for key in keys
        ]
        return [*_MORE_PATHS, "adapter", *listed]

    def resolve(self, value: str) -> Path:
        """A path of the recipe as an absolute one."""
        return (self.folder / Path(value).expanduser()).resolve()

    def marks(self, errors: Mapping[str, str] | None = None) -> dict[str, str]:
        """Step to ``done``, ``invalid`` or ``open``: open is what is neither wrong nor known to be right.

        ``errors`` are those of ``errors()``, where they are known already.
        """
        wrong = {step_of(key) for key in (self.errors() if errors is None else errors)}
        lacking = set() if self.get("data.test") else {"Data"}
        if self.trains and not self.get("data.train"):
            lacking.add("Data")
        if not self.get("model"):
            lacking.add("Model")
        if self.raw.get("adapter") == "":
            lacking.add("Method")
        marks = {}
        for step in STEPS:
            if step in wrong:
                marks[step] = "invalid"
            elif step in lacking or (step == "Review" and not self.planned):
                marks[step] = "open"
            else:
                marks[step] = "done"
        return marks

    # -- what becomes of it ------------------------------------------------------------------------------

    def clean(self) -> dict[str, Any]:
        """The recipe as it will be written."""
        return shortened(self.raw)

    def yaml(self) -> str:
        """The recipe as YAML, keys in the order of their declaration."""
        order = {key.partition(".")[0]: None for key in all_fields()}
        raw = self.clean()
        listed = {key: raw[key] for key in order if key in raw}
        return yaml.safe_dump({**listed, **raw}, sort_keys=False, allow_unicode=True, width=100)

    @property
    def path(self) -> Path:
        """Where the recipe is saved."""
        return self.folder / f"{self.name}.yaml"

    @property
    def run(self) -> Path:
        """Where a build of it goes, as the command line's default has it."""
        return Path.cwd() / "runs" / self.name

    def name_error(self) -> str:
        """Why no file can have the name, empty where one can."""
        if not self.name or "/" in self.name or self.name.startswith("."):
            return f"{self.name or 'name'}: no file name; use letters, digits and hyphens"
        return ""

    def replaces(self) -> bool:
        """Whether saving would write over a file that this draft was not read from."""
        return self.path.exists() and self.path != self.source and self._on_disk() != self.yaml()

    def _on_disk(self) -> str | None:
        try:
            return self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def save(self) -> Path:
        """Write the recipe, unless the file says the same already. Raises InputError."""
        if wrong := self.name_error():
            raise InputError(wrong)
        try:
            if self.source == self.path and _same_recipe(self.path, self.raw):
                return self.path
            self.path.write_text(self.yaml(), encoding="utf-8")
            load_recipe(self.path)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror})") from None
        self.source = self.path
        return self.path

    def arguments(self) -> list[str]:
        """The edgepeft arguments that build it."""
        return ["build", _short(self.path), "--out", _short(self.run)]

    def command(self) -> str:
        """The command line that does what the wizard would."""
        return shlex.join(["edgepeft", *self.arguments()])

    def as_dict(self) -> dict[str, Any]:
        """JSON form, kept so that a closed terminal loses nothing."""
        source = str(self.source) if self.source else None
        return {
            "folder": str(self.folder),
            "name": self.name,
            "raw": self.clean(),
            "source": source,
        }

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Draft:
        """A draft from its JSON form. Raises KeyError, TypeError for what is none."""
        json.dumps(kept["raw"])
        source = Path(kept["source"]) if kept.get("source") else None
        return cls(Path(kept["folder"]), str(kept["name"]), spelled_out(dict(kept["raw"])), source)


_MORE_PATHS = (
    "model",
    "data.train",
    "data.test",
    "data.generic",
    "data.template",
    "quantize.calibration.text",
)
_PATHS_OF_PARTS = {"adapter": ("path", "rows"), "adapters": ("path", "test")}


def sample_recipe() -> Path:
    """The recipe of the demo, which comes with the wizard. Raises EdgepeftError where it is missing."""
    path = (Path(__file__).parent / "samples" / "recipes").resolve() / "home-control.yaml"
    if not path.is_file():
        raise EdgepeftError(f"{path}: the demo's recipe is missing; reinstall edgepeft")
    return path


def _field_key(key: str) -> str:
    """The field that shows an error at ``key``: itself, or the nearest that holds it."""
    while field_at(key) is None and "." in key:
        key = key.rpartition(".")[0]
    return key


def _same_recipe(path: Path, raw: dict[str, Any]) -> bool:
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    return isinstance(written, dict) and spelled_out(written) == raw


def _free_name(folder: Path, wanted: str) -> str:
    names = [wanted, *(f"{wanted}-{number}" for number in range(2, 1000))]
    taken = {path.stem for path in folder.glob("*.yaml")}
    runs = {path.name for path in (Path.cwd() / "runs").glob("*")}
    return next(name for name in names if name not in taken | runs)


def _relative(path: Path, folder: Path) -> str:
    folder = folder.resolve()
    return os.path.relpath(path, folder) if path.is_relative_to(folder) else str(path)


def _short(path: Path) -> str:
    """A path as a user in the working folder would type it."""
    return _relative(path.resolve(), Path.cwd())
