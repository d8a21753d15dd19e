"""The recipe being made: values as typed, and what is wrong with them in the words of the command line."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepeft.config.explain import problems_of
from edgepeft.config.loader import parse_value
from edgepeft.data.held_out import HeldOut
from edgepeft.utils.yaml_text import write_yaml
from edgepeft_tui.fields import Field, all_fields, field_at, nearest_key, shown
from edgepeft_tui.plain_text import visible_line
from edgepeft_tui.raw_recipe import (
    DEFAULT_TARGETS,
    STEPS,
    put_value,
    shortened,
    spelled_out,
    step_of,
    value_at,
)
from edgepeft_tui.typed_paths import existing_path, relative, typed_path

_MORE_PATHS = (
    "model",
    "data.train",
    "data.test",
    "data.generic",
    "data.template",
    "quantize.calibration.text",
    "answer.json_schema",
)
_PATHS_OF_PARTS = {"adapter": ("path", "rows"), "adapters": ("path", "test")}


@dataclass
class Findings:
    """What is known of the draft beyond its own form; gone, or no longer counted, once a value is another.

    ``trouble`` is the last error that planning met (key or "", and its text), ``planned`` whether the values as
    they are have been planned without one. ``looked`` are errors met by looking at the model and the data, by
    step, and ``warnings`` what planning and looking have said of a step.
    """

    trouble: tuple[str, str] | None = None
    planned: bool = False
    looked: dict[str, tuple[str, str]] = field(default_factory=dict)
    warnings: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    verified: dict[str, str] = field(default_factory=dict)
    """Step to its values when they were last planned without an error."""


@dataclass
class Draft:
    """A recipe in the making. Its paths are relative to ``folder``, where it will be saved as ``name``.yaml.

    ``raw`` holds only what differs from saying nothing; ``opened`` are the steps that somebody has seen, ``step``
    the one that is shown. ``kept_as`` names its file among the drafts that are kept, empty before it has one, and
    ``begun`` is what it was when somebody opened it.
    """

    folder: Path
    name: str = "run"
    raw: dict[str, Any] = field(default_factory=dict)
    source: Path | None = None
    opened: set[str] = field(default_factory=set)
    step: str = field(default=STEPS[0], compare=False)
    kept_as: str = field(default="", compare=False)
    begun: dict[str, Any] | None = field(default=None, compare=False)
    findings: Findings = field(default_factory=Findings, compare=False)

    def __post_init__(self) -> None:
        """The values in the form that the fields work on."""
        self.raw = spelled_out(self.raw)

    def move_to(self, folder: Path) -> None:
        """Save elsewhere: paths that lead to something are rewritten so that they still do."""
        for key in self._path_keys():
            value = self.get(key)
            if isinstance(value, str) and (target := self.existing(value)) is not None:
                self.put(key, relative(target, folder))
        self.folder = folder

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
        self.put(spec.key, nothing if not text.strip() else value)

    def set_path(self, key: str, path: Path) -> None:
        """Put a path, relative to the draft's folder where it lies below it."""
        self.put(key, relative(path.resolve(), self.folder))

    def put(self, key: str, value: Any) -> None:
        """Put a value of the recipe; None takes the key away."""
        put_value(self.raw, key, value)
        spelled_out(self.raw)
        self._changed(key)

    def _changed(self, key: str) -> None:
        self.findings.trouble, self.findings.planned = None, False
        self.findings.looked.pop(step_of(key), None)

    @property
    def targets(self) -> list[str]:
        """Names of the targets in the recipe."""
        return [str(item.get("name", "")) for item in self._targets()]

    def _targets(self) -> list[dict[str, Any]]:
        listed = self.raw.get("targets", [{"name": name} for name in DEFAULT_TARGETS])
        return listed if isinstance(listed, list) else []

    def toggle_target(self, name: str) -> None:
        """Add a target, or take it away."""
        listed = self._targets()
        # What a recipe says of its other targets stays as it is.
        kept = [item for item in listed if item.get("name") != name]
        self.put("targets", kept if len(kept) < len(listed) else [*listed, {"name": name}])

    def parts(self, listed: str) -> int:
        """How many parts a list of sections has."""
        named = self.raw.get(listed)
        return len(named) if isinstance(named, list) else 0

    def add_part(self, listed: str) -> None:
        """Room for one more part of a list of sections."""
        self.put(listed, [*(self.raw.get(listed) or []), {}])

    def drop_part(self, listed: str) -> None:
        """Take the last part of a list of sections away, and an empty list with it."""
        self.put(listed, (self.raw.get(listed) or [])[:-1] or None)

    @property
    def swaps(self) -> bool:
        """Whether a target takes adapters that are chosen while it runs."""
        return any(target.get("adapters") == "hot-swap" for target in self._targets())

    @property
    def adapters(self) -> int:
        """How many existing adapters are named; 0 where one is trained."""
        named = self.raw.get("adapter")
        return len(named) if isinstance(named, list) else int(named is not None)

    def add_adapter(self) -> None:
        """Room for one more adapter, to be combined with those there are."""
        named = self.raw.get("adapter")
        if not isinstance(named, list):
            named = [{"path": named} if named else {}]
        self.put("adapter", [*named, {}])

    def drop_adapter(self) -> None:
        """Take the last of several adapters away; a single one is no list, and needs no way to combine."""
        named = self.raw.get("adapter")
        if isinstance(named, list) and named:
            kept = named[:-1]
            single = kept[0].get("path", "") if kept else ""
            self.put("adapter", kept if len(kept) > 1 else single)
            if len(kept) <= 1:
                self.put("combine", None)

    def use_adapter(self, path: Path | str | None) -> None:
        """Take an existing adapter instead of training one; None goes back to training."""
        if path is None:
            self.put("adapter", None)
            self.put("combine", None)
            return
        for section in ("method", "training"):
            self.raw.pop(section, None)
        if isinstance(path, Path):
            self.set_path("adapter", path)
        else:
            self.put("adapter", path)

    @property
    def trains(self) -> bool:
        """Whether an adapter is trained, rather than an existing one used."""
        return "adapter" not in self.raw

    @property
    def holds_out(self) -> bool:
        """Whether data.test is a part of the training rows, rather than a file."""
        try:
            return HeldOut.parse(self.text("data.test")) is not None
        except ValueError:
            return True  # a part that can't be held out

    # -- what is wrong -----------------------------------------------------------------------------------

    def problems(self) -> dict[str, str]:
        """Key to what is wrong there by the recipe's declaration; "" for what belongs to no field."""
        return {nearest_key(key): text for key, text in problems_of(self.clean()).items()}

    def errors(self) -> dict[str, str]:
        """All that is known to be wrong, in the words of the command line, by key."""
        found = self.problems()
        for trouble in (self.findings.trouble, *self.findings.looked.values()):
            if trouble is not None:
                found.setdefault(*trouble)
        return found

    def note_failure(self, line: str) -> None:
        """Keep the error line of a plan of this draft, at the field it speaks of."""
        text = line.removeprefix("stdin: ")
        self.findings.trouble, self.findings.planned = (self._key_in(text), text), False

    def note_look(self, step: str, error: str = "", warnings: Iterable[str] = ()) -> None:
        """Keep what was found by looking at the model or the data: one error, or none, and warnings."""
        self.findings.warnings[step, "look"] = list(warnings)
        self.findings.looked.pop(step, None)
        if error:
            text = error.removeprefix("stdin: ")
            # What a file holds may speak of no key, and yet belongs to the step; other keys are other steps'.
            key = self._key_in(text) or {"Model": "model", "Data": "data.train"}[step]
            if step_of(key) == step:
                self.findings.looked[step] = (key, text)

    def _key_in(self, text: str) -> str:
        start = nearest_key(text.partition(": ")[0])
        if field_at(start) is not None:
            return start
        for key in self._path_keys():
            value = self.get(key)
            if isinstance(value, str) and value:
                path = typed_path(value, self.folder)
                if path is not None and str(path) in text:
                    return key
        if self.raw.get("adapter") == "" and str(self.folder.resolve()) in text:
            return "adapter"
        keys = sorted(all_fields(), key=len, reverse=True)
        return next((key for key in keys if "." in key and key in text), "")

    def _path_keys(self) -> list[str]:
        """The keys that may hold a path."""
        listed = [
            f"{name}.{index}.{key}"
            for name, keys in _PATHS_OF_PARTS.items()
            for index in range(self.parts(name))
            for key in keys
        ]
        named = [key for key in _MORE_PATHS if key != "data.test" or not self.holds_out]
        return [*named, "adapter", *listed]

    def existing(self, value: str) -> Path | None:
        """What a path of the recipe leads to, None where there is nothing."""
        return existing_path(value, self.folder)

    def name_error(self) -> str:
        """Why no file can have the name, empty where one can."""
        wrong = not self.name or "/" in self.name or self.name.startswith(".")
        if wrong or visible_line(self.name) != self.name or len(self.name.encode()) > 200:
            return f"{self.name or 'name'}: not a file name; use letters, digits and hyphens"
        return ""

    # -- what becomes of it ------------------------------------------------------------------------------

    def clean(self) -> dict[str, Any]:
        """The recipe as it will be written."""
        return shortened(self.raw)

    def yaml(self, without: Container[str] = ()) -> str:
        """The recipe as YAML, keys in the order of their declaration; ``without`` some top-level keys."""
        order = {key.partition(".")[0]: None for key in all_fields()}
        raw = {key: value for key, value in self.clean().items() if key not in without}
        listed = {key: raw[key] for key in order if key in raw}
        return write_yaml({**listed, **raw})

    @property
    def path(self) -> Path:
        """Where the recipe is saved."""
        return self.folder / f"{self.name}.yaml"

    @property
    def run(self) -> Path:
        """Where a build of it goes, as the command line's default has it."""
        return Path.cwd() / "runs" / self.name
