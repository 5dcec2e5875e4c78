"""`backup`, `verify`, `restore`: the commands that do long work."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mirror import browse, restore
from mirror.cli.commands.browse import tell_out_of_reach
from mirror.cli.context import Context
from mirror.cli.terminal.output import Output
from mirror.cli.terminal.words import counted, first_in_words, words
from mirror.errors import MirrorError, UsageError
from mirror.git.wire.client import GitLogin
from mirror.http.network import Network, from_environment
from mirror.logs import get_logger, register_secret
from mirror.model import Outcome, Run, RunEntry, name_to_json
from mirror.restore import Item, Report
from mirror.restore.restore import is_url
from mirror.store.reading.reader import Store

if TYPE_CHECKING:
    from mirror.config import Config

_log = get_logger("cli")
# So many repositories that share a problem are named.
NAMES_MAX = 5
MEANING = {
    0: "all is well",
    1: "something failed",
    2: "the configuration or command line needs correcting",
    3: "incomplete: what could be had is stored, the rest is listed above",
    4: "damage was found",
    5: "so much is gone upstream that prune stops until mirror accept-loss",
    11: "something was locked by another run",
    12: "a credential was refused",
    75: "a rate limit or the network stood in the way: try again later",
    130: "it was stopped",
}


async def run_backup(context: Context) -> int:
    """`mirror backup`."""
    from mirror import backup
    from mirror.cli.commands.init import make_store
    from mirror.cli.owner import become_owner, secret_files

    options = context.options
    config = context.config()
    if not options.init:
        Store.open(config.store).close()
    elif not options.dry_run:
        make_store(context, config.store)
    if not options.dry_run:
        become_owner(config.store, "backup", needed=secret_files(config))
    with context.progress() as progress:
        try:
            run = await backup.run(
                config,
                context.selectors(),
                clock=context.clock,
                environment=context.environment,
                full=options.full,
                dry_run=options.dry_run,
                lock_wait=options.lock_wait,
                progress=progress,
            )
        except backup.RunCancelled as cancelled:
            run = cancelled.run
    _show_run(context, run, config)
    return run.exit_code


def _show_run(context: Context, run: Run, config: Config) -> None:
    out = context.out
    warnings = context.expiring(config)
    out.document({**run.to_json(previous=None), "warnings": warnings, "schema": 1})
    repositories = sorted((e for e in run.entries if e.kind == "repository"), key=lambda e: e.full_name)
    if run.facts.get("dry_run"):
        out.line(f"Would back up {len(repositories)} repositories to {config.store}:")
        for entry in repositories:
            out.line(f"  {entry.full_name}")
    elif repositories:
        out.table(
            ("REPOSITORY", "OUTCOME", "SNAPSHOT", "WHAT CHANGED"),
            [(e.full_name, e.outcome, e.snapshot or "-", _changes(e)) for e in repositories],
        )
    _tell_problems(out, run)
    for now, name in run.facts.get("renamed", {}).items():
        out.line(f"The workspace {name} is called {now} now: correct its name in the configuration.")
    tell_out_of_reach(out, [(entry.full_name, browse.out_of_reach(entry.parts)) for entry in run.entries])
    out.warnings(warnings)
    out.line()
    seconds = (run.ended - run.started).total_seconds()
    facts = f"{len(repositories)} repositories, {run.facts.get('requests', 0)} requests, {seconds:.1f} s"
    meaning = MEANING.get(run.exit_code, "something failed")
    out.line(f"{facts}: {meaning}.", style="green" if run.exit_code == 0 else "yellow")


def _tell_problems(out: Output, run: Run) -> None:
    """Every problem of a run, and below them what to do about them, each thing once."""
    shared: dict[str, list[str]] = {}
    for entry in run.entries:
        for problem in entry.problems:
            shared.setdefault(problem.text, []).append(entry.full_name)
    texts = [problem.text for problem in run.problems]
    for text, names in shared.items():
        more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
        texts.append(f"{', '.join(sorted(names)[:NAMES_MAX])}{more}: {first_in_words(text)}")
    if not texts:
        return
    out.line()
    out.line(f"{len(texts)} problem{'' if len(texts) == 1 else 's'}:", style="bold")
    for text in texts:
        out.line(f"  {text}")
    problems = [*run.problems, *(problem for entry in run.entries for problem in entry.problems)]
    for hint in dict.fromkeys(problem.hint for problem in problems if problem.hint):
        out.line(f"  → {hint}")


def _changes(entry: RunEntry) -> str:
    if entry.outcome == Outcome.CONFIRMED:
        return "nothing"
    count: dict[str, int] = {}
    for change in entry.ref_changes:
        count[change.kind] = count.get(change.kind, 0) + 1
    loud = [
        f"{name_to_json(change.name)} {change.kind}"
        for change in entry.ref_changes
        if change.kind in ("rewritten", "removed")
    ]
    quiet = [f"{count[kind]} refs {kind}" for kind in ("created", "forwarded") if kind in count]
    if len(loud) > 3:
        loud = [*loud[:3], f"{len(loud) - 3} more"]
    return ", ".join([*loud, *quiet]) or ("documents" if entry.outcome == Outcome.SAVED else "-")


async def run_verify(context: Context) -> int:
    """`mirror verify`."""
    from mirror import verify
    from mirror.cli.owner import become_owner
    from mirror.store.writing.verify_journal import VerifyJournal
    from mirror.store.writing.writer import open_store

    store, options = context.store(), context.options
    key = f"{options.level} {options.share} {' '.join(options.selectors)}"
    journal: VerifyJournal | None = None
    become_owner(store, "verify")
    try:
        Store.open(store).close()
        journal = VerifyJournal(store, key, resume=options.resume, now=context.clock.now())
    except OSError as error:
        # A copy on a read-only disk is verified all the same.
        _log.info("verify.no_journal", reason=error.strerror)
    with context.progress() as progress:
        run = await verify.run(
            store,
            context.selectors(),
            level=options.level,
            share=options.share,
            journal=journal,
            clock=context.clock,
            progress=progress,
            environment=context.environment,
        )
    try:
        with open_store(store, command="mirror verify") as writer:
            writer.write_run(run)
        if journal is not None:
            journal.finish()
    except (MirrorError, OSError) as error:
        _log.warning("verify.not_recorded", reason=str(error))
    out = context.out
    out.document({**run.to_json(previous=None), "schema": 1})
    findings = run.facts["findings"]
    for finding in findings:
        where = f" ({finding['repository']})" if finding["repository"] else ""
        what = f" {finding['object']}" if finding["object"] else ""
        touched = f"; touches {', '.join(finding['snapshots'])}" if finding["snapshots"] else ""
        out.line(f"{finding['severity']}: {finding['file']}{where}:{what} {finding['problem']}{touched}")
    checked = ", ".join(counted(number, name) for name, number in run.facts["checked"].items())
    seconds = (run.ended - run.started).total_seconds()
    verdict = "no damage found" if run.exit_code == 0 else f"{len(findings)} finding(s)"
    share = f" {run.facts['share']}" if "share" in run.facts else ""
    out.line(f"Verified{share} at level {run.facts['level']}: {checked}, {seconds:.1f} s: {verdict}.")
    return run.exit_code


async def run_restore(context: Context) -> int:
    """`mirror restore`."""
    options = context.options
    store = context.store()
    url = is_url(options.to)
    if options.overwrite and not options.dry_run and not options.yes:
        confirm(f"Replace what an earlier restore wrote to {options.to}?")
    login = await _login(context, options.to) if url else None
    network = await _network(context) if url else None
    with context.progress() as progress:
        report = await restore.run(
            store,
            context.selector(),
            target=options.to,
            at=options.at,
            only=options.only,
            overwrite=options.overwrite,
            dry_run=options.dry_run,
            login=login,
            network=network,
            refs=options.refs,
            progress=progress,
            environment=context.environment,
        )
    context.out.document(report.to_json())
    _show_restore(context, report)
    return report.exit_code


def confirm(question: str) -> None:
    """Ask a person. Raises UsageError where the answer is not yes, or nobody is there."""
    if not sys.stdin.isatty():
        raise UsageError("this needs a yes, and nobody is here to ask", hint="add --yes if you are sure")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("not confirmed; nothing was written")


def _verb(report: Report, item: Item) -> str:
    """The headline for one repository's result."""
    if report.dry_run:
        return "Would restore"
    if not item.problems:
        return "Restored"
    return "Restored in part" if item.is_there else "Could not restore"


def _show_restore(context: Context, report: Report) -> None:
    out = context.out
    for item in report.items:
        failed = bool(item.problems)
        verb = _verb(report, item)
        out.line(f"{verb} {item.repository} to {item.target}", style="yellow" if failed else "green")
        confirmed = f", last confirmed {item.last_confirmed}" if item.last_confirmed else ""
        different = f", next different {item.next_different}" if item.next_different else ""
        if item.snapshot and (item.is_there or not failed):
            out.line(f"  as of snapshot {item.snapshot} (taken {item.taken}{confirmed}{different})")
            others = "".join(f", {counted(count, 'refs')} of {name}" for name, count in item.mirrors.items())
            objects = f", {counted(item.lfs_objects, 'LFS objects')}" if item.lfs_objects else ""
            refs, documents = counted(item.refs, "refs"), counted(item.documents, "documents")
            out.line(f"  {refs}, {documents}{others}{objects}")
        if item.logs_let_go:
            out.line(
                f"  {item.logs_let_go} step logs are not there: retention has let them go", style="yellow"
            )
        if item.lfs_absent:
            out.line(
                f"  {item.lfs_absent} LFS objects are not there: no backup could get them", style="yellow"
            )
        reasons: dict[str, list[str]] = {}
        for part, reason in item.not_whole.items():
            reasons.setdefault(reason, []).append(words(part))
        for reason, parts in reasons.items():
            out.line(f"  not whole in that snapshot: {', '.join(parts)}: {reason}")
        for _, text in item.problems:
            out.line(f"  problem: {text}", style="yellow")
        for text in item.advice:
            out.line(f"  to do: {text}", style="yellow")
        if item.push is not None and not report.dry_run and (item.is_there or not failed):
            out.line(f"  {len(item.push['pushed'])} pushed, {len(item.push['unchanged'])} already there")
    first = report.items[0] if report.items and not report.dry_run and report.exit_code == 0 else None
    if first is not None and first.refs and first.push is None:
        out.line(f"Work with it: git clone {first.target}/{restore.CODE}")


async def _login(context: Context, url: str) -> GitLogin | None:
    """How to sign in at the target: as configured for Bitbucket's own origin, else from the
    environment."""
    environment: Mapping[str, str] = context.environment
    username, password = environment.get("MIRROR_GIT_USERNAME"), environment.get("MIRROR_GIT_PASSWORD")
    if username and password:
        register_secret(password)
        try:
            (username + password).encode("utf-8")
        except UnicodeEncodeError:
            raise UsageError("MIRROR_GIT_USERNAME or MIRROR_GIT_PASSWORD is not UTF-8 text") from None
        return GitLogin(username, password)
    path = context.config_path()
    if path is None or urlsplit(url).scheme == "file":
        return None
    config = context.config()
    target, own = urlsplit(url), urlsplit(config.bitbucket.git_url)
    if (target.scheme, target.netloc) != (own.scheme, own.netloc):
        return None
    name = target.path.strip("/").partition("/")[0]
    entry = next((one for one in config.workspaces if one.workspace == name), config.workspaces[0])
    from mirror.connect import git_login

    return await git_login(config, entry, clock=context.clock, environment=context.environment)


async def _network(context: Context) -> Network:
    """How a target of ours is reached: by the configuration, where there is one."""
    if context.config_path() is None:
        return from_environment(context.environment)
    from mirror.connect import network_of

    return await network_of(context.config(), context.environment)
