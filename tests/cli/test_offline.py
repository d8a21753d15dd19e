"""Nothing is sent anywhere: build, run and serve on a local model, watched by the kernel's own account of their
calls.

strace sees every process that a command starts. Connections to this machine itself (a server's own clients) are
no business of anybody's; all others are counted, and so are datagrams, as which names are looked up.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.command import COMMAND, write_recipe
from tests.runtimes import as_a_user
from tests.tiny import write_tiny_data, write_tiny_model

# Only these calls are stopped at, so that the rest runs at its own speed.
STRACE = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg"]
_PLACE = re.compile(
    r'sa_family=(AF_INET6?).*?(?:inet_addr\("([^"]*)"\)|inet_pton\(AF_INET6, "([^"]*)")'
)


@pytest.fixture(scope="module")
def traced() -> list[str]:
    """The command that traces another; skips where this machine can't."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run([*STRACE, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace can't trace here ({tried.stderr.strip()[:100]})")
    return STRACE


def outgoing(log: Path) -> list[str]:
    """The lines of calls that would have left this machine."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        for _, four, six in _PLACE.findall(line):
            if not (four.startswith("127.") or six == "::1" or four == "0.0.0.0"):
                found.append(line)
    return found


def local(log: Path) -> int:
    """How many calls went to this machine itself."""
    return len(_PLACE.findall(log.read_text(errors="replace"))) - len(outgoing(log))


@pytest.mark.parametrize(
    "code",
    [
        "s = socket.socket(); s.setblocking(False); s.connect_ex(('192.0.2.1', 9))",
        "s = socket.socket(socket.AF_INET6); s.setblocking(False); s.connect_ex(('2001:db8::1', 9))",
        "s = socket.socket(type=socket.SOCK_DGRAM); s.setblocking(False); s.sendto(b'x', ('192.0.2.1', 53))",
    ],
    ids=["IPv4", "IPv6", "datagram"],
)
def test_a_connection_that_is_made_is_seen(traced: list[str], tmp_path: Path, code: str) -> None:
    """In a process of a process, to an address that stands for nobody (RFC 5737, RFC 3849)."""
    inner = f"import socket, contextlib\nwith contextlib.suppress(OSError):\n    {code}"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}], check=True)"
    log = tmp_path / "calls"
    subprocess.run([*traced, "-o", log, sys.executable, "-c", outer], check=True)
    assert len(outgoing(log)) >= 1


def test_a_connection_to_this_machine_is_told_apart(traced: list[str], tmp_path: Path) -> None:
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"
    log = tmp_path / "calls"
    subprocess.run([*traced, "-o", log, sys.executable, "-c", code], check=True)
    assert (outgoing(log), local(log)) == ([], 1)


@pytest.fixture(scope="module")
def bundle(traced: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a tiny model, built under the trace; nothing may have left the machine meanwhile."""
    root = tmp_path_factory.mktemp("offline")
    recipe = write_recipe(
        root / "tiny.yaml",
        write_tiny_model(root / "model", "llama"),
        write_tiny_data(root / "data"),
        training={"max_steps": 2, "batch_size": 4},
        targets=["cpu-int4"],
    )
    home = root / "home"
    home.mkdir()
    log = root / "calls"
    command = [*COMMAND, "build", str(recipe), "--out", str(root / "run"), "--progress", "none"]
    # What a user has who is not in CI and never heard of a switch; huggingface_hub is not told to stay offline.
    environment = {**as_a_user(home), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [*traced, "-o", log, *command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert outgoing(log) == []
    assert not list(home.rglob("*Microsoft*"))
    return root / "run" / "bundles" / "cpu-int4"


def test_a_build_sends_nothing(bundle: Path) -> None:
    assert (bundle / "fidelity.json").is_file()


def test_a_run_sends_nothing(traced: list[str], bundle: Path, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    command = [*COMMAND, "run", str(bundle), "hi", "--max-new-tokens", "4"]
    done = subprocess.run([*traced, "-o", log, *command], env=as_a_user(tmp_path), check=False)
    assert done.returncode == 0
    assert outgoing(log) == []
    assert not list(tmp_path.rglob("*Microsoft*"))


def test_a_server_sends_nothing(traced: list[str], bundle: Path, tmp_path: Path) -> None:
    """While it answers, and for a few seconds after, in which a queue of events would be sent."""
    log = tmp_path / "calls"
    process = subprocess.Popen(
        [*traced, "-o", log, *COMMAND, "serve", str(bundle), "--port", "0"],
        env=as_a_user(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        request = urllib.request.Request(
            f"{address}/chat/completions",
            b'{"model": "cpu-int4", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}',
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.status == 200
        time.sleep(5)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)
    assert outgoing(log) == []
    assert not list(tmp_path.rglob("*Microsoft*"))
