"""Measure hooks: from a push to its snapshot, and what forged hooks cost.

    python -m benchmarks.hooks [--repositories 50] [--pushes 60] [--forged 1000] [--seconds 10]

The daemon runs in a process of its own, the simulator in this one. Pushes come one after the other, to
repositories chosen at random, and a snapshot counts once its tag and refs can be read. Forged hooks come from
a process of their own over connections that stay open, half of them to a wrong address, half to the right one
with a body of 8 KiB and a wrong signature.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from mirror.auth.hook_keys import HookKeys
from mirror.auth.secrets import Secret
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES
from mirror.simulator.writes.hooks import EVENTS
from mirror.store.reading.reader import Store

SECRET = "the secret of this benchmark's hooks"
CONNECTIONS = 20
_TICKS = os.sysconf("SC_CLK_TCK")


class Daemon:
    """A daemon with a door, and its log."""

    def __init__(self, folder: Path, config: Path) -> None:
        self._log = folder / "log"
        with self._log.open("wb") as log:
            words = ["daemon", "-c", str(config), "--log-format", "json"]
            self.process = subprocess.Popen([sys.executable, "-m", "mirror", *words], stderr=log)

    def wait_for(self, event: str) -> dict[str, str]:
        """The last line of the log with this event, once there is one."""
        while True:
            lines = [json.loads(one) for one in self._log.read_text().splitlines() if one.startswith("{")]
            found: list[dict[str, str]] = [one for one in lines if one["event"] == event]
            if found:
                return found[-1]
            time.sleep(0.1)

    def cpu(self) -> float:
        """Its processor seconds so far, without its workers."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


def seconds_to_snapshot(store: Path, place: str, pushed: str) -> float:
    """How long it takes until the last snapshot of a folder has this commit as main."""
    began = time.monotonic()
    while True:
        with Store.open(store) as opened:
            [folder] = [one for one in opened.repositories() if one.uuid == place]
            latest = folder.metadata.latest()
            known = folder.metadata.code_refs(latest) if latest is not None else None
        if known is not None and known[0].refs.get(b"refs/heads/main") == pushed:
            return time.monotonic() - began
        time.sleep(0.05)


async def forge(url: str, rate: int, seconds: float) -> list[float]:
    """Send forged hooks at `rate` a second; returns how long each answer took."""
    parts, took = urlsplit(url), list[float]()
    body = b"x" * 8192
    wrong = f"POST /hooks/{'0' * 32} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
    signed = f"POST {parts.path} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature: sha256={'0' * 64}\r\n"
    signed += f"Content-Length: {len(body)}\r\n\r\n"
    requests = [wrong, signed.encode() + body]

    async def connection(number: int) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        loop = asyncio.get_running_loop()
        began, gap = loop.time() + number / rate, CONNECTIONS / rate
        for index in range(int(seconds / gap)):
            await asyncio.sleep(max(0.0, began + index * gap - loop.time()))
            sent = loop.time()
            writer.write(requests[index % 2])
            await reader.readuntil(b"\r\n\r\n")
            took.append(loop.time() - sent)
        writer.close()

    await asyncio.gather(*(connection(number) for number in range(CONNECTIONS)))
    return took


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Run the benchmark in this folder."""
    world = World(folder / "upstream", limit=10**6)
    acme = world.add_workspace("acme")
    several = [acme.add_repository(f"repository-{number}") for number in range(options.repositories)]
    for one in several:
        one.commit("main", {"a.txt": b"0\n"}, "Begin\n")
    token, secret = folder / "token", folder / "secret"
    for path, text in ((token, world.add_workspace_access_token("acme", SCOPES)), (secret, SECRET)):
        path.touch(0o600)
        path.write_text(text)
    config, store = folder / "config.yaml", folder / "store"
    with Simulator(world) as simulator:
        config.write_text(
            f"store: {store}\n"
            f"bitbucket: {{api_url: '{simulator.api_url}', git_url: '{simulator.git_url}'}}\n"
            f"workspaces: [{{workspace: acme, credential: {{kind: workspace_access_token,"
            f" token: {{file: {token}}}}}}}]\n"
            "limits: {api_limit: 1000000}\n"
            "schedule: {backup: every 4h}\n"
            f"hooks: {{url: 'http://127.0.0.1', secret: {{file: {secret}}}, listen: '127.0.0.1:0'}}\n"
        )
        subprocess.run([sys.executable, "-m", "mirror", "init", "--store", str(store)], check=True)
        daemon = Daemon(folder, config)
        try:
            daemon.wait_for("daemon.backup_ended")
            address = daemon.wait_for("hooks.listening")["address"]
            with Store.open(store) as opened:
                url = f"http://{address}{HookKeys(Secret(SECRET), None, opened.id).path}"
            hook = {"uuid": "{f0}", "url": url, "active": True, "events": list(EVENTS)}
            acme.settings["hooks"] = [hook]
            world.secrets["{f0}"] = SECRET
            chance, took = random.Random(1), list[float]()
            for number in range(options.pushes):
                one = chance.choice(several)
                pushed = one.commit("main", {"a.txt": b"%d\n" % (number + 1)}, "Change\n")
                took.append(seconds_to_snapshot(store, one.uuid, pushed))
            p95 = statistics.quantiles(took, n=20)[-1]
            print(f"push to snapshot: median {statistics.median(took):.1f} s, p95 {p95:.1f} s", flush=True)
            simulator.requests.clear()
            before, began = daemon.cpu(), time.monotonic()
            words = ["--forge", url, "--forged", str(options.forged), "--seconds", str(options.seconds)]
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.hooks", *words], check=True, capture_output=True, text=True
            )
            wall = time.monotonic() - began
            cpu = (daemon.cpu() - before) / options.seconds
            print(
                f"{options.forged} forged hooks a second: {cpu:.0%} of one processor; {done.stdout.strip()};"
            )
            print(f"{len(simulator.requests)} requests to Bitbucket ({wall:.1f} s)")
        finally:
            daemon.process.terminate()
            daemon.process.wait()


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repositories", type=int, default=50)
    parser.add_argument("--pushes", type=int, default=60)
    parser.add_argument("--forged", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--forge", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.forge is not None:
        took = asyncio.run(forge(options.forge, options.forged, options.seconds))
        p95 = statistics.quantiles(took, n=20)[-1]
        print(f"{len(took)} answered, p95 {1000 * p95:.0f} ms")
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        measure(Path(folder), options)


if __name__ == "__main__":
    main()
