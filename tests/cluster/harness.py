"""Several hosts, one Bitbucket and one PostgreSQL; and what must hold whatever happens to them."""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from types import TracebackType

from mirror.auth.hook_keys import HookKeys
from mirror.auth.secrets import Secret
from mirror.simulator import EVERY_SCOPE, LoggedRequest, Simulator, Switches, World
from mirror.simulator.rate_limits import group_of
from mirror.simulator.writes.hooks import EVENTS
from mirror.store.reading.reader import RepositoryFolder
from tests.cluster.hosts import Host
from tests.cluster.network import Namespace, why_no_namespaces
from tests.cluster.postgres import Postgres

HOUR = timedelta(hours=1)
HOOK_SECRET = "a secret of the hooks, long enough to sign"
EMAIL = "backup@acme.example"


class Trial:
    """A workspace `acme` of `repositories`, and hosts called a, b, c… that share one user's budget of `limit`
    requests an hour. Each has an API token of its own, by which its requests are known.

    Context manager: the simulator and the network live inside; start the hosts.
    """

    def __init__(
        self,
        folder: Path,
        postgres: Postgres,
        database: str,
        *,
        hosts: int = 3,
        repositories: int = 6,
        limit: int = 100_000,
        headers: bool = True,
        reserve: int = 100,
        ahead: Sequence[float] = (),
        more: str = "",
        ports: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.postgres, self.database, self._more = folder, postgres, database, more
        self._reserve, self._ports, self._environment = reserve, ports, dict(environment or {})
        self._ahead = [*ahead, *[0.0] * hosts][:hosts]
        self._stack = ExitStack()
        self.world = World(folder / "upstream", limit=limit)
        self.acme = self.world.add_workspace("acme")
        self.author = self.world.add_user("Ann", "ann@acme.example")
        self.user = self.world.add_user("Backup", EMAIL)
        # What a user may do stands in no header, unless this switch is on.
        self.simulator = Simulator(
            self.world, switches=replace(Switches.default(), rate_limit_headers_for_all=headers)
        )
        self.hosts: list[Host] = []
        self._names: dict[str, str] = {}
        for number in range(repositories):
            self.add_repository(f"repository-{number}")

    def add_repository(self, slug: str) -> None:
        """A repository with a branch and a pull request."""
        repository = self.acme.add_repository(slug)
        repository.commit("main", {"README.md": slug.encode()}, "Begin\n")
        repository.commit("topic", {"a.txt": slug.encode()}, "Work\n")
        repository.open_pull_request(source="topic", title=f"Topic of {slug}", author=self.author)

    def push(self, slug: str, text: str) -> None:
        """Somebody pushes a commit to main."""
        self.acme.repositories[slug].commit("main", {"README.md": text.encode()}, f"{text}\n")

    def __enter__(self) -> Trial:
        with self._stack as stack:
            stack.enter_context(self.simulator)
            for number, ahead in enumerate(self._ahead):
                self.hosts.append(stack.enter_context(self._host(number, ahead)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # pytest shows it where the test has failed.
        for host in self.hosts:
            print(f"--- host {host.name}\n{host.told()}")
        print(f"--- PostgreSQL\n{self.postgres.log()}")
        self._stack.close()

    def _host(self, number: int, ahead: float) -> Host:
        name = "abcdefg"[number]
        ports = [
            int(url.rpartition(":")[2].partition("/")[0])
            for url in (self.simulator.api_url, self.simulator.storage_url)
        ]
        ports += self._ports
        host = Host(
            self.folder / name,
            name,
            ports=ports,
            database=self.postgres.socket,
            namespace=Namespace(number) if why_no_namespaces() is None else None,
            ahead=ahead,
        )
        host.environment = self._environment
        secret = self.world.add_api_token(self.user, EVERY_SCOPE)
        signed = base64.b64encode(f"{EMAIL}:{secret}".encode()).decode()
        for_git = base64.b64encode(f"x-bitbucket-api-token-auth:{secret}".encode()).decode()
        self._names |= {f"Basic {signed}": name, f"Basic {for_git}": name}
        host.write("token", secret)
        host.write("database", f"postgresql://postgres@{host.database_address}/{self.database}")
        host.write("secret", HOOK_SECRET)
        host.write("config.yaml", self._config(host))
        return host

    def send_hooks_to(self, host: Host) -> None:
        """From now on, Bitbucket announces changes to this host."""
        door = HookKeys(Secret(HOOK_SECRET), None, host.store().id).path
        hook = {"uuid": "{f0}", "active": True, "events": list(EVENTS)}
        self.acme.settings["hooks"] = [hook | {"url": f"http://127.0.0.1:{host.door}{door}"}]
        self.world.secrets["{f0}"] = HOOK_SECRET

    def _config(self, host: Host) -> str:
        simulator = self.simulator
        return (
            "store: store\n"
            f"bitbucket: {{api_url: '{simulator.api_url}', git_url: '{simulator.git_url}',"
            f" oauth_url: '{simulator.oauth_url}'}}\n"
            f"limits: {{git_workers: 2, api_limit: {min(self.world.limit, 1000)},"
            f" api_reserve: {self._reserve}}}\n"
            "schedule: {backup: 'every 1m', jitter: none}\nretention: {keep_last: 10}\n"
            "workspaces:\n  - workspace: acme\n"
            f"    credential: {{kind: api_token, email: {EMAIL}, token: {{file: token}}}}\n"
            f"hooks: {{listen: '127.0.0.1:{host.door_inside}', url: https://m.example.org,"
            " secret: {file: secret}}\n" + self._more.format(shard=host.name)
        )

    def discover_now(self) -> None:
        """Let the cluster find at its next report that a backup is due."""
        self.postgres.query("UPDATE mirror.discoveries SET due = '-infinity'", self.database)

    # -- what must hold

    def asked(self) -> dict[str, list[tuple[str, LoggedRequest]]]:
        """By repository: which host asked about it, and what, in order; but for lists."""
        found: dict[str, list[tuple[str, LoggedRequest]]] = defaultdict(list)
        for one in tuple(self.simulator.requests):
            path = one.path.removeprefix("/2.0/repositories").lstrip("/").split("/")
            name = self._names.get(one.headers.get("authorization", ""))
            if name is not None and len(path) > 1 and path[0] == "acme":
                found[path[1].removesuffix(".git")].append((name, one))
        return found

    def owners(self) -> dict[str, list[str]]:
        """By the uuid of each repository, the hosts whose stores have a folder of it."""
        found: dict[str, list[str]] = defaultdict(list)
        for host in self.hosts:
            for folder in host.store().repositories():
                found[folder.uuid].append(host.name)
        return found

    def check_no_repository_has_two_homes(self, moved: Mapping[str, str] | None = None) -> None:
        """Each repository is in one store, and one host alone has asked about it. About those that `moved`,
        by slug, these hosts have, one after the other."""
        twice = {uuid: names for uuid, names in self.owners().items() if len(names) > 1}
        assert not twice, f"in several stores: {twice}"
        for slug, requests in self.asked().items():
            names = [name for name, _ in groupby(requests, key=lambda one: one[0])]
            expected = (moved or {}).get(slug)
            is_right = len(names) == 1 if expected is None else "".join(names) == expected
            assert is_right, f"{slug} was asked about by {names}"

    def most_in_an_hour(self) -> Counter[tuple[str, str]]:
        """By identity and group of resources: the most requests in any hour, with those refused."""
        times: dict[tuple[str, str], list[datetime]] = defaultdict(list)
        for one in tuple(self.simulator.requests):
            if one.identity is not None:
                times[one.identity, group_of(one.path)].append(one.at)
        most: Counter[tuple[str, str]] = Counter()
        for key, stamps in times.items():
            stamps.sort()
            begin = 0
            for end, stamp in enumerate(stamps):
                while stamps[begin] <= stamp - HOUR:
                    begin += 1
                most[key] = max(most[key], end - begin + 1)
        return most

    def check_budget(self) -> None:
        """No identity made more requests in any hour than it may, and none was refused for that."""
        for (identity, group), most in self.most_in_an_hour().items():
            limit = self.world.limits.get(group, self.world.limit)
            assert most <= limit, f"{most} requests of {group} by {identity} within an hour"
        assert not [one for one in tuple(self.simulator.requests) if one.status == 429], (
            "refused: over the limit"
        )

    def missing(self) -> list[str]:
        """What upstream has and no store has: repositories, and refs whose values differ."""
        folders = {one.uuid: one for host in self.hosts for one in host.store().repositories()}
        told = []
        for slug, repository in self.acme.repositories.items():
            folder = folders.get(repository.uuid)
            if folder is None:
                told.append(slug)
            elif (kept := _kept(folder)) != (there := repository.refs()):
                told.append(f"{slug}: {kept} instead of {there}")
        return told

    def check_nothing_is_lost(self) -> None:
        """Everything that upstream has is in a store, and each store is whole."""
        assert not (told := self.missing()), told
        for host in self.hosts:
            done = host.run("verify", "--json")
            assert done.returncode == 0, done.stdout + done.stderr


def _kept(folder: RepositoryFolder) -> dict[bytes, str]:
    """The refs that the last snapshot of a repository names."""
    newest = folder.metadata.latest()
    refs = None if newest is None else folder.metadata.code_refs(newest)
    return {} if refs is None else dict(refs[0].refs)
