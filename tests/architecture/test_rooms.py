"""Check the map in ARCHITECTURE.md against the syntax trees: imports go down only, and each room keeps what
only it may know."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "mirror"

FLOORS = {
    "errors": 1, "logs": 1,
    "model": 2, "fs": 2, "http": 2,
    "git": 3, "auth": 3, "retention": 3, "notify": 3, "metrics": 3, "bucket": 3,
    "store": 4, "config": 4, "bitbucket": 4, "forgejo": 4,
    "discovery": 5, "collect": 5, "connect": 5, "extract": 5, "reclaim": 5, "systemd": 5, "completion": 5,
    "backup": 6, "restore": 6, "verify": 6, "prune": 6, "browse": 6, "archive": 6, "copy": 6,
    "doctor": 7, "drill": 7, "cluster": 7,
    "daemon": 8, "hooks": 8, "web": 8,
    "cli": 9,
}  # fmt: skip

# The wings of large rooms, from the top down: a wing or module imports only those of later rows. A module in
# no row is on top.
WINGS = {
    "git": (
        {"mirrors"}, {"lfs"}, {"wire", "documents"}, {"bare", "refs"}, {"workers", "walk"}, {"pack", "cgit"},
        {"processes"}, {"difference", "objects", "failures"},
    ),
    "store": ({"writing"}, {"reading"}, {"format"}),
    "bitbucket": (
        {"lists", "recording"}, {"client"}, {"fields", "people", "writes"}, {"endpoints", "failures"},
    ),
    "collect": (
        {"workspace", "repository"}, {"kinds"}, {"outcomes", "listing"}, {"catalogue", "context"},
        {"failures", "marks", "state"}, {"put_back", "ranges", "times"},
    ),
    "backup": (
        {"backup", "announced"}, {"conclusion", "session"}, {"visits"},
        {"workspace", "repository", "stored", "announced_turn"}, {"turn", "absence"},
        {"entries", "git", "api_refused"}, {"brake", "failures"}, {"context", "gathered"},
        {"results", "announcements", "listing"},
    ),
    "restore": (
        {"into", "into_forgejo"}, {"session"}, {"carry", "restore", "secrets"},
        {"comparison", "plan", "pushing"},
        {"people", "refs", "report", "server"}, {"lfs"},
    ),
    "browse": (
        {"export", "figures", "repository", "run_page", "upstream", "watch"}, {"cluster"},
        {"attention", "freshness"},
        {"documents", "find", "lateness", "overlay", "runs"}, {"status"},
        {"copied", "folder_facts"}, {"usage"},
    ),
    "daemon": (
        {"service"}, {"live"}, {"clustered", "overdue", "preflight", "timetable"},
        {"hooks", "listening", "runner", "schedule"},
        {"expiry", "jobs", "notify", "queue", "sole", "state", "watch"}, {"copies"},
    ),
    "copy": (
        {"sending"}, {"passing"}, {"bringing", "checking", "lending", "records"},
        {"folder", "materializing", "protect"}, {"aside", "fetching", "pruning", "session"},
        {"bundles", "introduction", "memory", "reading"}, {"choosing", "losses"},
        {"coding", "format", "objects", "together"},
    ),
    "cluster": (
        {"operations", "soundness", "view"}, {"mover", "returned"}, {"moving", "rows"},
        {"carrying", "overview"},
        {"by_hand", "host"}, {"queue"}, {"discovery"}, {"borrowing", "parts", "stores", "worker"}, {"reaper"},
        {"brakes", "connector", "jobs", "leases", "placement", "schema", "shards"}, {"database"},
    ),
    "cli": (
        {"main", "manual"}, {"commands"}, {"copied"}, {"context", "owner", "parser"},
        {"clustering", "copying", "serving"},
        {"arguments", "shells", "terminal", "system"},
    ),
    "web": (
        {"hooks_door"}, {"server"}, {"app"}, {"guard", "routes"},
        {"errors", "overview", "repository", "runs", "sign_in"}, {"render"},
        {"filters", "health", "metrics"}, {"context"},
        {"access", "assets", "charts", "connections", "headers", "listing"},
    ),
    "simulator": (
        {"server"}, {"app"}, {"writes", "hooks"}, {"api", "git"}, {"rate_limits"},
        {"faults", "authentication", "storage"},
        {"world"}, {"switches", "responses", "read_write_lock", "addresses", "stale"},
    ),
}  # fmt: skip

SOURCES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The room of a source file: its folder or file directly under the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a source file, parsed once."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def imports(path: Path) -> list[tuple[int, str]]:
    """Every module that a file imports, those inside functions included, with the line."""
    return list(_imports(path))


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, including imports inside functions, with the line."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports hide the direction"
            yield node.lineno, node.module or ""
            if node.module == "mirror":
                for alias in node.names:
                    yield node.lineno, f"mirror.{alias.name}"


def dotted(node: ast.AST) -> str:
    """`os.environ` for the attribute access of that name, else an empty text."""
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return node.id if isinstance(node, ast.Name) else ""


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Every text literal of a file except docstrings, with the line."""
    tree = tree_of(path)
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(path) for path in SOURCES} - {"__init__", "__main__", "simulator"}
    assert rooms <= set(FLOORS), "a new room needs a floor in the map"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    room = room_of(path)
    wrong = []
    for line, module in imports(path):
        parts = module.split(".")
        if parts[0] != "mirror" or len(parts) < 2 or parts[1] == "__version__" or parts[1] == room:
            continue
        target = parts[1]
        if room == "simulator":
            wrong.append(f"{path}:{line}: the simulator imports {module}; it stands apart")
        elif target == "simulator":
            if room not in ("cli", "drill"):
                wrong.append(f"{path}:{line}: only cli and drill may start the simulator")
        elif room not in ("__init__", "__main__") and FLOORS[target] >= FLOORS[room]:
            wrong.append(f"{path}:{line}: {room} (floor {FLOORS[room]}) imports {module}")
    assert wrong == []


def test_the_map_shows_the_same_floors_and_wings() -> None:
    text = (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    floors = {
        room: int(floor)
        for floor, rooms in re.findall(r"^\| (\d) \| ([^|]+) \|", text, re.MULTILINE)
        for room in re.findall(r"`(\w+)`", rooms)
    }
    assert floors == FLOORS
    for room, rows in WINGS.items():
        cells = (" + ".join(f"`{name}`" for name in sorted(row)) for row in rows)
        assert f"| `{room}` | {' · '.join(cells)} |" in text, room


def test_the_map_names_files_that_exist() -> None:
    text = (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", text))
    assert len(named) > 20
    assert {name for name in named if not (PACKAGE / name).is_file()} == set()


def rows_of(room: str) -> dict[str, int]:
    """The height of each wing and module of a room, from 1 at the bottom."""
    rows = WINGS[room]
    return {name: len(rows) - row for row, names in enumerate(rows) for name in names}


@pytest.mark.parametrize("room", WINGS)
def test_wings_have_a_direction(room: str) -> None:
    """Wings of one row do not import each other: two that did would be one."""
    height = rows_of(room)
    top = len(WINGS[room]) + 1
    assert all(source_of(f"mirror.{room}.{name}") for name in height), "a row names what there is"
    wrong = []
    for path in (PACKAGE / room).rglob("*.py"):
        wing = path.relative_to(PACKAGE / room).parts[0].removesuffix(".py")
        for line, module in names_of(path):
            parts = module.split(".")
            if parts[:2] != ["mirror", room] or len(parts) < 3 or parts[2] == wing:
                continue
            if source_of(".".join(parts[:3])) and height.get(parts[2], top) >= height.get(wing, top):
                wrong.append(f"{path}:{line}: {wing} imports {module}")
    assert wrong == []


def test_only_git_and_the_simulator_know_dulwich() -> None:
    found = {
        room_of(path) for path in SOURCES for _, module in imports(path) if module.split(".")[0] == "dulwich"
    }
    assert found <= {"git", "simulator"}


# Every module that writes to a store. A module that only reads never imports one, not even indirectly.
WRITES = ("mirror.fs.durable", "mirror.store.writing", "mirror.reclaim")
# `git` has modules that read and modules that write. These change a mirror or the documents of a store.
GIT_WRITES = (
    "mirror.git.mirrors.fetch", "mirror.git.mirrors.gc", "mirror.git.mirrors.maintenance",
    "mirror.git.mirrors.clone", "mirror.git.mirrors.worktree", "mirror.git.documents.repack",
    "mirror.git.documents.rewrite", "mirror.git.pack.receiver", "mirror.git.pack.merge",
    "mirror.git.wire.fetch_pack", "mirror.git.lfs.sync", "mirror.git.lfs.transfer",
)  # fmt: skip
# What a reading room writes outside the store, and with which module.
OUTSIDE = {
    ("extract", "mirror.git.mirrors.clone"): "a copy of a mirror, where the user wants it",
    ("extract", "mirror.git.lfs.sync"): "finding the LFS objects of a copy",
    ("extract", "mirror.git.lfs.transfer"): "where git-lfs looks for an object",
    ("restore", "mirror.git.lfs.sync"): "sending LFS objects to a server",
}
READERS = (
    "mirror.extract",
    "mirror.verify",
    "mirror.restore",
    "mirror.browse",
    "mirror.archive",
    "mirror.store.reading",
)


@cache
def source_of(module: str) -> Path | None:
    """The file of one of the program's modules; None for other names."""
    path = PACKAGE.parent / module.replace(".", "/")
    return next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()), None)


@cache
def names_of(path: Path) -> list[tuple[int, str]]:
    """Like `imports`, plus each imported name, because it may be a module itself."""
    found = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom)]
    return imports(path) + [
        (one.lineno, f"{one.module}.{alias.name}") for one in found for alias in one.names
    ]


def is_in(module: str, packages: Iterable[str]) -> bool:
    """Whether a module is one of `packages` or lies in one."""
    return any(module == one or module.startswith(f"{one}.") for one in packages)


@cache
def needs(module: str) -> dict[str, str]:
    """Every module of the program that `module` imports, directly or indirectly, with its importer; without
    the imports of `git`."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        one = waiting.pop()
        path = source_of(one)
        if path is None or is_in(one, ["mirror.git"]):
            continue
        for _, name in names_of(path):
            if name.startswith("mirror.") and source_of(name) and name not in found:
                found[name] = one
                waiting.append(name)
    return found


# It lies outside the store.
JOURNAL = "mirror.restore.carry.journal"


def module_of(path: Path) -> str:
    """`mirror.room.module` for a source file."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("reader", READERS)
def test_what_only_reads_imports_nothing_that_writes(reader: str) -> None:
    used = set()
    for path in SOURCES:
        if is_in(module_of(path), [reader]):
            found = needs(module_of(path))
            for name, importer in found.items():
                is_journal = (name, importer) == ("mirror.fs.durable", JOURNAL)
                assert is_journal or not is_in(name, WRITES), f"{path} needs {name}, which {importer} imports"
            for line, name in names_of(path):
                if name in GIT_WRITES:
                    used.add((room_of(path), name))
                    assert (room_of(path), name) in OUTSIDE, f"{path}:{line}: {reader} only reads"
    assert used == {one for one in OUTSIDE if f"mirror.{one[0]}" == reader}, "exceptions that nothing needs"


def test_what_writes_is_known() -> None:
    assert all(source_of(one) for one in (*WRITES, *GIT_WRITES, *READERS))
    assert "mirror.fs.durable" in needs("mirror.store.writing.folder_writer")


def test_stored_files_and_mirrors_are_taken_out_one_way() -> None:
    """Always checked: `stored_file` opens every stored file, and only `extract` copies a mirror."""
    for path in SOURCES:
        place = str(path.relative_to(PACKAGE))
        for line, module in imports(path):
            if module == "mirror.git.mirrors.clone":
                assert room_of(path) == "extract", f"{path}:{line}: mirrors are copied by extract"
            if module == "gzip" and room_of(path) != "simulator":
                assert place == "store/writing/file_store.py", (
                    f"{path}:{line}: compressed files are read by stored_file"
                )


def test_apscheduler_httpx_and_yaml_each_have_their_rooms() -> None:
    homes = {
        "apscheduler": {"daemon"},
        "httpx": {
            "http",
            "auth",
            "bitbucket",
            "bucket",
            "forgejo",
            "connect",
            "backup",
            "doctor",
            "cli",
            "daemon",
            "notify",
            "hooks",
            "simulator",
        },
        "apprise": {"notify"},
        "prometheus_client": {"metrics"},
        "urllib3": {"http", "git"},
        "certifi": {"http"},
        "yaml": {"config"},
        "pydantic": {"config"},
        "rich": {"cli"},
        "jinja2": {"archive", "web"},
        "markupsafe": {"archive", "web"},
        "markdown_it": {"archive"},
        "starlette": {"simulator", "web"},
        "uvicorn": {"simulator", "web"},
    }
    for path in SOURCES:
        for line, module in imports(path):
            home = homes.get(module.split(".")[0])
            assert home is None or room_of(path) in home, f"{path}:{line}: {module} does not belong here"


EDGES = {"cli", "daemon", "simulator"}
WORLD = {
    "os.environ", "os.getenv", "os.environb", "os.putenv",
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.sleep",
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today",
    "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today",
    "asyncio.sleep",
}  # fmt: skip
# Each has its reason; an entry that is no longer needed fails the test.
_WATCH = "a worker process is an edge of its own; what needs the time there takes a Watch"
WORLD_EXCEPTIONS: dict[tuple[str, str], str] = {
    ("git/workers/main.py", "time.monotonic"): "a process of its own, with nobody to hand it a clock",
    ("__main__.py", "os.environ"): "the entry, which hands it to what completes words",
    ("notify/apprise_process.py", "os.environ"): "a process of its own; Apprise reads proxies from there",
    **{("git/workers/clock.py", name): _WATCH for name in ("time.monotonic", "time.time", "time.sleep")},
}


def test_environment_and_clock_are_read_only_at_the_edges() -> None:
    used: set[tuple[str, str]] = set()
    wrong = []
    for path in SOURCES:
        if room_of(path) in EDGES:
            continue
        for node in ast.walk(tree_of(path)):
            name = dotted(node)
            if name in WORLD:
                key = (str(path.relative_to(PACKAGE)), name)
                if key in WORLD_EXCEPTIONS:
                    used.add(key)
                else:
                    wrong.append(
                        f"{path}:{getattr(node, 'lineno', 0)}: {name}; take a Clock or an environment"
                    )
    assert wrong == []
    assert used == set(WORLD_EXCEPTIONS), "exceptions that nothing needs any more"


# The client makes one for itself where nobody gives it one, as tests do.
BUDGET_MAKERS = {"connect/clients.py", "bitbucket/client/client.py"}


def test_only_connect_makes_a_budget() -> None:
    """A second one counts for itself: what a cluster lends would be passed."""
    makers = set()
    for path in SOURCES:
        names = {name for _, name in imports(path)}
        calls = (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))
        if "mirror.bitbucket.client.budget" in names and any(dotted(one.func) == "Budget" for one in calls):
            makers.add(str(path.relative_to(PACKAGE)))
    assert makers == BUDGET_MAKERS


# Field names that only Bitbucket's JSON uses, and its URLs.
BITBUCKET_WORDS = re.compile(
    r"^(full_slug|has_issues|mainbranch|updated_on|created_on|comment_count|task_count|build_number|"
    r"display_name|nickname|account_id|pagelen|participated_on|close_source_branch|merge_commit)$"
    r"|api\.bitbucket\.org|bitbucket\.org/"
)
# The user can change the defaults of the configuration, so the URLs are there.
BITBUCKET_HOMES = {"bitbucket", "simulator", "config"}
# The bodies of what a restore sends are written where they are planned.
BITBUCKET_BODIES = PACKAGE / "restore" / "plan"


def test_only_the_bitbucket_room_knows_its_fields_and_addresses() -> None:
    wrong = [
        f"{path}:{line}: {text!r}"
        for path in SOURCES
        if room_of(path) not in BITBUCKET_HOMES and BITBUCKET_BODIES not in path.parents
        for line, text in strings(path)
        if BITBUCKET_WORDS.search(text)
    ]
    assert wrong == []


STORE_PATHS = re.compile(
    r"code\.git|metadata\.git|wiki\.git|state\.json|store\.json|\bquarantine/|index\.json"
)


def test_only_the_store_room_knows_its_paths() -> None:
    wrong = [
        f"{path}:{line}: {text!r}"
        for path in SOURCES
        if room_of(path) != "store"
        for line, text in strings(path)
        # A literal that is a path, not a sentence that mentions one.
        if STORE_PATHS.search(text) and " " not in text.strip()
        # A restore writes outside the store, under the same names.
        if (room_of(path), text) != ("restore", "code.git")
    ]
    assert wrong == []


def test_print_is_the_command_lines_alone() -> None:
    for path in SOURCES:
        if room_of(path) in {"cli"}:
            continue
        for node in ast.walk(tree_of(path)):
            assert not (isinstance(node, ast.Call) and dotted(node.func) == "print"), f"{path}:{node.lineno}"
