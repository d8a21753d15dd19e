"""A hub, and the command as a user of it starts it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.command import edgepeft
from tests.conftest import ModelMaker
from tests.hub.served import Hub, served


@dataclass
class User:
    """Somebody with a cache of their own, in a folder of their own."""

    hub: Hub
    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "work"

    @property
    def cache(self) -> Path:
        return self.home / "hub-cache"

    def __call__(
        self, *arguments: object, token: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return edgepeft(*arguments, cwd=self.folder, env=self.environment(token) | environment)

    def environment(self, token: str = "") -> dict[str, str]:
        """What tells a command where hub and cache are."""
        return {
            "HF_ENDPOINT": self.hub.address,
            "HF_HOME": str(self.home / "hf"),
            "HF_HUB_CACHE": str(self.cache),
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": token,
            "HF_HUB_DISABLE_XET": "1",
        }

    def json(self, *arguments: object, **more: str) -> Any:
        """What a command that must succeed prints."""
        done = self(*arguments, "--json", **more)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refused(self, *arguments: object, **more: str) -> tuple[int, str]:
        """Exit status and line of a command that must fail."""
        done = self(*arguments, **more)
        assert done.returncode != 0, done.stdout
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        return done.returncode, lines[0]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with served() as one:
        yield one


@pytest.fixture
def user(hub: Hub, tmp_path: Path) -> User:
    one = User(hub, tmp_path)
    one.folder.mkdir()
    return one


@pytest.fixture
def model(tiny_model: ModelMaker) -> Path:
    return tiny_model("llama")


Adapter = Callable[..., Path]
