"""Measure the page over a store of many repositories with long histories.

    python -m benchmarks.page [--repositories 500] [--snapshots 1000] [--runs 200]

Makes a believable store (`tests/web/large_world.py`), serves it in a process of its own, and asks for the
overview: the first time, when nothing was read before (cold), and again (warm, the best and the median).
Printed are the time to the first byte and to the last, the bytes, and the memory of the server.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measured import most_memory
from mirror.logs import configure
from tests.web.large_world import make_world

ROUNDS = 15


def asked(port: int, path: str) -> tuple[float, float, int]:
    """Seconds to the first byte and to the last of one page, and its bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    begun = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    first = time.perf_counter() - begun
    size = len(answer.read())
    assert answer.status == 200, answer.status
    connection.close()
    return first, time.perf_counter() - begun, size


def measure(store: Path) -> None:
    """Serve the store, ask, and print."""
    words = [sys.executable, "-m", "mirror", "web", "--store", str(store), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().rpartition(":")[2].partition("/")[0])
            first, whole, size = asked(port, "/")
            print(f"overview, cold: first byte {first:.2f} s, whole {whole:.2f} s", flush=True)
            for path in ("/", "/?page=5&sort=name", "/?q=web&show=attention", "/runs"):
                times = [asked(port, path) for _ in range(ROUNDS)]
                firsts, wholes = [one[0] for one in times], [one[1] for one in times]
                size = times[-1][2]
                print(
                    f"{path}, warm: first byte {min(firsts) * 1000:.0f} ms (median "
                    f"{statistics.median(firsts) * 1000:.0f}), whole {min(wholes) * 1000:.0f} ms (median "
                    f"{statistics.median(wholes) * 1000:.0f}), {size / 1000:.0f} kB",
                    flush=True,
                )
            print(f"memory of the server: {most_memory([server.pid])} MiB", flush=True)
        finally:
            server.terminate()


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repositories", type=int, default=500)
    parser.add_argument("--snapshots", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=200)
    asked_for = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        configure(stream=nowhere)
        begun = time.perf_counter()
        store = make_world(
            Path(folder) / "store", repositories=asked_for.repositories, snapshots=asked_for.snapshots,
            runs=asked_for.runs, hours=4,
        )  # fmt: skip
        print(f"made in {time.perf_counter() - begun:.0f} s", flush=True)
        measure(store)


if __name__ == "__main__":
    main()
