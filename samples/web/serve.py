"""Serve the chat page with a bundle: python serve.py BUNDLE [--port 8000] [--host 127.0.0.1].

Needs `npm install --ignore-scripts` in samples/, and nothing of Python but its standard library. A phone reaches
the page with --host 0.0.0.0; browsers give WebGPU only to https and to localhost, so put a proxy with a
certificate before it.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent
LIBRARIES = PAGE.parent / "node_modules"
MANIFEST = "edgepeft.json"


class Handler(SimpleHTTPRequestHandler):
    """The page at /, what a bundle's manifest lists under /model/, JavaScript libraries under /lib/."""

    extensions_map = {  # noqa: RUF012  # the base class reads it as an instance's
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def __init__(
        self, *args: object, bundle: Path, listed: frozenset[str], **kwargs: object
    ) -> None:
        self._roots = {"model": bundle, "lib": LIBRARIES}
        self._listed = listed
        super().__init__(*args, directory=str(PAGE), **kwargs)  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        """A path below one of the three folders; the base class leaves `..` out of it."""
        first, _, rest = path.lstrip("/").partition("/")
        root = self._roots.get(first)
        if root is None:
            return super().translate_path(path)
        inside = Path(super().translate_path("/" + rest)).relative_to(PAGE)
        # transformers.js looks for files by name; nobody vouches for those that the manifest doesn't list.
        if first == "model" and inside.as_posix() not in self._listed:
            return str(root / "not listed")
        return str(root / inside)

    def list_directory(self, path: object) -> None:
        """No listings."""
        self.send_error(404)

    def end_headers(self) -> None:
        """Isolate the page, which WebAssembly's threads ask for."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet about every file."""


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--host", default="127.0.0.1")
    options = parser.parse_args()
    outputs = read_object(options.bundle / MANIFEST).get("outputs")
    if "transformers.js_config" not in read_object(options.bundle / "config.json") or not outputs:
        parser.error(f"{options.bundle}: not a bundle for transformers.js")
    if not (LIBRARIES / "@huggingface" / "transformers").is_dir():
        parser.error(f"run npm install --ignore-scripts in {PAGE.parent}")
    listed = frozenset((MANIFEST, *outputs))
    handler = partial(Handler, bundle=options.bundle.resolve(), listed=listed)
    server = ThreadingHTTPServer((options.host, options.port), handler)
    print(f"http://{options.host}:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
