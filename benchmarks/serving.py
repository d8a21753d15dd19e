"""A server under load: many clients, many adapters, and whether every answer is the one given alone.

    python benchmarks/serving.py BUNDLE [--adapters 8] [--rank 16] [--clients 16] [--each 2] [--batch 8]

BUNDLE takes adapters (``adapters: hot-swap``). A copy of it is filled with random adapters. ``edgepeft serve`` is
started twice: with ``--batch``, where every adapter is first asked by one client alone and then all clients ask
at once, half of them streaming and some leaving in the middle; and with ``--concurrent 1``, where the same
requests are answered one after another. Printed is one JSON object: seconds, tokens per second, answers that are
the same.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from adapters import write_adapter

from edgepeft.hot_swap.store import add_adapter
from edgepeft.runtime import Bundle

TOKENS = 48
PROMPTS = (
    "Tell me about the weather in the mountains.",
    "Write a note to a neighbour who left the gate open last night, and say what the dog did.",
)
Ask = tuple[str, str]


class Server:
    """``edgepeft serve`` in a process of its own."""

    def __init__(self, bundle: Path, *options: object) -> None:
        command = [sys.executable, "-m", "edgepeft.cli.app", "serve", str(bundle), "--port", "0"]
        self._process = subprocess.Popen(
            [*command, "--no-check", "--waiting", "1000", *map(str, options)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        address = self._process.stdout.readline().strip()
        self._host = address.removeprefix("http://").removesuffix("/v1")

    def answer(self, ask: Ask, *, stream: bool = False) -> tuple[str, int]:
        """Text and tokens of one answer."""
        body = self._post(ask, stream)[1].read().decode()
        if not stream:
            found = json.loads(body)
            return found["choices"][0]["message"]["content"], found["usage"]["completion_tokens"]
        events = [json.loads(line[6:]) for line in body.split("\n\n") if line.startswith("data: {")]
        deltas = [event["choices"][0]["delta"] for event in events if event["choices"]]
        text = "".join(delta.get("content", "") for delta in deltas)
        return text, events[-1]["usage"]["completion_tokens"]

    def leave(self, ask: Ask) -> None:
        """Ask, wait for the answer to begin, and go away."""
        connection, response = self._post(ask, True)
        response.read(200)
        connection.close()

    def _post(
        self, ask: Ask, stream: bool
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self._host, timeout=600)
        body: dict[str, Any] = {
            "model": ask[0],
            "messages": [{"role": "user", "content": ask[1]}],
            "max_tokens": TOKENS,
            "stream": stream,
        }
        if stream:
            body["stream_options"] = {"include_usage": True}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        response = connection.getresponse()
        if response.status != 200:
            raise SystemExit(response.read().decode())
        return connection, response

    def stop(self) -> int:
        """End it as Ctrl-C does; its exit status."""
        self._process.terminate()
        return self._process.wait(60)


def load(server: Server, asks: Sequence[Ask], clients: int) -> tuple[list[str], int, float]:
    """All requests at once, by that many clients: texts, tokens and seconds."""
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = list(
            pool.map(
                lambda at: server.answer(asks[at], stream=bool(at % 2)),
                range(len(asks)),
            )
        )
    seconds = time.perf_counter() - started
    return [text for text, _ in found], sum(count for _, count in found), seconds


def figures(tokens: int, seconds: float) -> dict[str, float]:
    """Seconds and tokens a second."""
    return {"seconds": round(seconds, 2), "tokens_per_second": round(tokens / seconds, 1)}


def measure(folder: Path, names: list[str], clients: int, each: int, batch: int) -> dict[str, Any]:
    """Both servers under the same requests."""
    kinds = [(name, prompt) for name in ("base", *names) for prompt in PROMPTS]
    asks = (kinds * clients * each)[: clients * each]
    random.Random(0).shuffle(asks)
    server = Server(folder, "--batch", batch)
    alone, alone_tokens, alone_seconds = load(server, kinds, 1)
    wanted = dict(zip(kinds, alone, strict=True))
    texts, tokens, seconds = load(server, asks, clients)
    same = sum(text == wanted[ask] for ask, text in zip(asks, texts, strict=True))
    with ThreadPoolExecutor(clients) as pool:
        left = [pool.submit(server.leave, ask) for ask in kinds]
        after = list(pool.map(lambda ask: server.answer(ask)[0], kinds))
        for one in left:
            one.result()
    beside = sum(text == wanted[ask] for ask, text in zip(kinds, after, strict=True))
    status = server.stop()
    plain = Server(folder, "--concurrent", 1)
    others, plain_tokens, plain_seconds = load(plain, asks, clients)
    plain.stop()
    return {
        "requests": len(asks),
        "different": len(kinds),
        "different_answers": len(set(wanted.values())),
        "clients": clients,
        "batch": figures(tokens, seconds),
        "batch_with_one_client": figures(alone_tokens, alone_seconds),
        "one_after_another": figures(plain_tokens, plain_seconds),
        "faster": round((tokens / seconds) / (plain_tokens / plain_seconds), 2),
        "same_as_alone": f"{same} of {len(asks)}",
        "same_as_alone_beside_clients_who_leave": f"{beside} of {len(kinds)}",
        "same_as_one_after_another": sum(a == b for a, b in zip(texts, others, strict=True)),
        "exit_status": status,
    }


def main() -> None:
    """Fill a copy of the bundle and put load on its servers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--each", type=int, default=2, help="requests of a client")
    parser.add_argument("--batch", type=int, default=8)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        shutil.copytree(asked.bundle, folder, ignore=shutil.ignore_patterns("adapters"))
        bundle = Bundle.open(folder, check="sizes")
        names = [f"customer-{index:02}" for index in range(asked.adapters)]
        for index, name in enumerate(names):
            write_adapter(bundle, Path(scratch) / "peft", asked.rank, index)
            add_adapter(bundle, name, Path(scratch) / "peft")
        print(json.dumps(measure(folder, names, asked.clients, asked.each, asked.batch), indent=2))


if __name__ == "__main__":
    main()
