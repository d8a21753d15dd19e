"""Start-up: how long ``edgepeft --help`` and importing the runtime take, against a bare interpreter.

python benchmarks/startup.py [--rounds 10]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

CASES = {
    "bare interpreter": [sys.executable, "-c", "pass"],
    "edgepeft --help": [sys.executable, "-m", "edgepeft.cli.app", "--help"],
    "import edgepeft.runtime": [sys.executable, "-c", "import edgepeft.runtime"],
    "import onnxruntime_genai": [sys.executable, "-c", "import onnxruntime_genai"],
}


def main() -> None:
    """Time each case in turn and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(options.rounds + 1):
        for name, command in CASES.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    for name, taken in seconds.items():
        print(f"{name:<26} {statistics.median(taken[1:]):6.3f} s")


if __name__ == "__main__":
    main()
