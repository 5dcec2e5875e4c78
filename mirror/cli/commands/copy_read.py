"""`mirror copy --check`, `--from` and `--prune`: what is done with a copy that is there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.bucket.address import Address
from mirror.cli.context import Context
from mirror.cli.copied import open_copy
from mirror.cli.owner import become_owner
from mirror.cli.terminal.confirm import confirm
from mirror.cli.terminal.progress import Work
from mirror.errors import ConfigError, Fault, NoStore, UsageError, worst
from mirror.model.words import counted, size
from mirror.store.reading.reader import Store

if TYPE_CHECKING:
    from mirror.auth.secrets import SecretSource
    from mirror.config.copies import CopyConfig
    from mirror.copy.checking import Answer, Checked
    from mirror.copy.pruning import Plan, Pruned
    from mirror.copy.reading import Copy

# How many faults, notes and objects are listed for people.
SHOWN_MAX = 200
_KEYS = ("access_key_id", "secret_access_key")
_REMEDY = "write `access_key_id: {file: …}` and `secret_access_key: {file: …}`"


def _addresses(context: Context) -> list[Address]:
    """The copies that are meant: that of --to, else every one of the configuration. Raises UsageError."""
    to = context.options.to
    if isinstance(to, Path):
        raise UsageError(f"{to} is no address of a copy", hint="write it as s3://bucket/prefix")
    if to is not None:
        return [to]
    config = context.config_in_file()
    found = [one.address for one in config.copies] if config is not None else []
    if not found:
        raise UsageError("no copy is configured", hint="name one with --to s3://bucket/prefix")
    return found


async def run_check(context: Context) -> int:
    """`mirror copy --check`."""
    from mirror.copy.checking import Checked

    store = _local_store(context)
    answers: list[Answer] = []
    try:
        for address in _addresses(context):
            answers.append(await _check(context, address, store))
            if isinstance(answers[-1].found, NoStore):
                raise answers[-1].found
    finally:
        is_recorded = _remember(context, store, answers)
    results = [one.found for one in answers if isinstance(one.found, Checked)]
    code = worst(one.exit_code for one in results)
    context.out.document(
        {
            "schema": 1, "exit_code": code, "recorded": is_recorded,
            "copies": [one.to_json() for one in results],
        }
    )  # fmt: skip
    return code


async def _check(context: Context, address: Address, store: Path | None) -> Answer:
    """Check one copy, and say what was found. That there is none is an answer, too."""
    from mirror.copy.checking import Answer, check

    begun, requests = context.clock.now(), 0
    found: Checked | NoStore
    try:
        async with open_copy(context, address) as copy:
            with context.progress(Work("copy", "Checking the copy", unit="folders", got="read")) as progress:
                found = await check(copy, read=context.options.read, store=store, progress=progress)
            requests = copy.bucket.requests
            _show_check(context, copy, found)
    except NoStore as error:
        found = error
    return Answer(str(address), begun, context.clock.now(), found, requests)


def _remember(context: Context, store: Path | None, answers: list[Answer]) -> bool:
    """Record in the store what checks of its copies said, and have the next copy send again what they missed;
    returns whether that was done. That there is no copy at an address to which nothing was sent from this
    store says nothing about it, and nor does a check as of a time."""
    from mirror.copy import checking

    if store is None or not answers or context.options.as_of is not None:
        return False
    with Store.open(store) as opened:
        sent = opened.history(lambda _: None).copies
    config = context.config_in_file()
    own = {*sent, *(one.to for one in (config.copies if config is not None else ()))}
    ours = [one for one in answers if one.address in own]
    if not ours:
        return False
    become_owner(store, "copy --check")  # every file of another user has been read
    if store.stat().st_uid != os.geteuid() or not os.access(store, os.W_OK):
        text = "the result was not recorded: check as the owner of the store, which must be writable"
        context.out.warnings([text])
        return False
    checking.remember(store, ours)
    for one in ours:
        if not isinstance(one.found, NoStore) and one.found.faults:
            _doubt(context, store, one.address)
    return True


def _doubt(context: Context, store: Path, address: str) -> None:
    """Have the next run that sends compare everything with a listing. What has its size is believed."""
    from mirror.copy.memory import memory_of

    memory_of(store, Address.parse(address)).doubt()
    context.out.line(f"At the next mirror copy {address} gets again what is missing or has another size.")
    context.out.line("What has other bytes of the same size stays: make a copy at another prefix.")


def _local_store(context: Context) -> Path | None:
    """The store to compare with, if there is one here."""
    try:
        store = context.store()
        Store.open(store).close()
    except (UsageError, NoStore):
        if context.options.store is not None:
            raise
        return None
    return store


def _show_check(context: Context, copy: Copy, found: Checked) -> None:
    out = context.out
    out.line(found.address, style="bold")
    for fault in found.faults[:SHOWN_MAX]:
        instead = f"; {fault.instead}" if fault.instead else ""
        out.line(f"  {fault.key}: {fault.problem}{instead}", style="red")
    if len(found.faults) > SHOWN_MAX:
        out.line(f"  and {len(found.faults) - SHOWN_MAX} more; --json lists all")
    if found.faults and found.versions_unread:
        out.line(f"  older versions were not looked for: {found.versions_unread}", style="yellow")
    for name, text in sorted((found.behind or {}).items()):
        out.line(f"  behind the store: {name}: {text}", style="yellow")
    what = "hashed" if found.read else "compared by listing"
    verdict = counted(len(found.faults), "faults") if found.faults else "as the manifests say"
    out.line(
        f"  {counted(found.folders, 'folders')}, {counted(found.objects, 'objects')}, {size(found.bytes)}"
        f" {what}: {verdict}.",
        style="red" if found.faults else "green",
    )
    if not found.read and not copy.notes:
        out.line("  --read also downloads and hashes everything, and checks the run records.")


async def run_from(context: Context) -> int:
    """`mirror copy --from ADDRESS --to DIR`."""
    from mirror.copy.bringing import bring

    options, out = context.options, context.out
    if not isinstance(options.source, Address):
        raise UsageError(f"{options.source} is no address of a copy", hint="write it as s3://bucket/prefix")
    if not isinstance(options.to, Path):
        raise UsageError("--from needs a folder for the new store", hint="name it with --to DIR")
    target = options.to.absolute()
    async with open_copy(context, options.source) as copy:
        with context.progress(Work("copy", "Making the store", unit="folders", got="read")) as progress:
            done = await bring(copy, target, now=context.clock.now(), progress=progress)
    code = 4 if done.lost else 0
    out.document(
        {
            "schema": 1, "copy": str(options.source), "store": str(target), "folders": done.folders,
            "bytes": done.size, "lost": done.lost, "notes": copy.notes, "exit_code": code,
        }
    )  # fmt: skip
    for text in copy.notes[:SHOWN_MAX]:
        out.line(f"  {text}", style="yellow")
    for place, why in sorted(done.lost.items()):
        out.line(f"  lost: {place}: {why}", style="red")
    out.line(
        f"Made a store of {counted(done.folders, 'folders')}, {size(done.size)}, at {target}.",
        style="red" if code else "green",
    )
    out.command(f"Next: mirror verify --store {target}")
    return code


async def run_prune(context: Context) -> int:
    """`mirror copy --prune`."""
    from mirror.copy import pruning
    from mirror.copy.coding import read_identities

    options, results = context.options, []
    if options.credentials is None and not options.dry_run:
        raise UsageError(
            "--prune needs a credential that may delete, which the one that sends must not",
            hint="give --credentials FILE, on another host: " + _REMEDY,
        )
    now, keep = context.clock.now(), timedelta(seconds=options.keep) if options.keep else pruning.KEEP
    for address in _addresses(context):
        async with _with_credentials(context, address) as copy:
            await pruning.check_clock(copy.bucket, now)
            planned = await pruning.plan(copy, now=now, keep=keep)
            _show_plan(context, address, planned)
            done = pruning.Pruned(str(address), planned)
            if not options.dry_run and (planned.manifests or planned.blobs):
                if not options.yes:
                    number = len(planned.manifests) + len(planned.blobs)
                    confirm(f"Delete {counted(number, 'objects')}, {size(planned.bytes)}, from {address}?")
                identities = await read_identities(options.identity)
                with context.progress(Work("copy", "Pruning the copy", unit="objects")) as progress:
                    done = await pruning.prune(
                        copy, planned, identities, now=now, keep=keep, progress=progress
                    )
                _show_pruned(context, done)
            results.append(done)
    codes = [one.exit_code for one in results]
    context.out.document(
        {
            "schema": 1, "dry_run": options.dry_run, "exit_code": worst(codes),
            "copies": [one.to_json() for one in results],
        }
    )  # fmt: skip
    return worst(codes)


@asynccontextmanager
async def _with_credentials(context: Context, address: Address) -> AsyncIterator[Copy]:
    """The copy, opened with the keys of --credentials."""
    path = context.options.credentials
    if path is None:
        async with open_copy(context, address) as copy:
            yield copy
        return
    keys = load_credentials(path)

    def changed(one: CopyConfig) -> CopyConfig:
        key, secret = (keys[name] for name in _KEYS)
        return replace(one, access_key_id=key, secret_access_key=secret)

    async with open_copy(context, address, changed) as copy:
        yield copy


def load_credentials(path: Path) -> dict[str, SecretSource]:
    """The sources of both keys in a file of --credentials. Raises ConfigError with all faults."""
    from mirror.config.plain import SOURCE_REMEDY, read_mapping, read_text, secret_source

    plain = read_mapping(
        read_text(path, "check the path of --credentials"), str(path), empty=_REMEDY, begin=_REMEDY
    )
    faults, found = list(plain.faults), {}
    faults += [Fault(None, key, "is missing", _REMEDY) for key in _KEYS if key not in plain.data]
    for key, value in plain.data.items():
        line = plain.lines.get((key,))
        if key not in _KEYS:
            faults.append(Fault(line, "", "a key that has no meaning here", _REMEDY))
            continue
        try:
            found[key] = secret_source(value, path.absolute().parent)
        except ValueError as error:
            is_plain = not isinstance(value, dict) and value is not None
            problem = "contains a secret, which must not be in this file" if is_plain else str(error)
            faults.append(Fault(line, key, problem, SOURCE_REMEDY))
    if faults:
        raise ConfigError(str(path), faults)
    return found


def _show_plan(context: Context, address: Address, planned: Plan) -> None:
    out = context.out
    out.line(str(address), style="bold")
    victims = [*planned.manifests, *planned.blobs]
    if context.options.dry_run:
        for one in victims[:SHOWN_MAX]:
            out.line(f"  {one.key}: {size(one.size)}: {one.reason}")
        if len(victims) > SHOWN_MAX:
            out.line(f"  and {len(victims) - SHOWN_MAX} more; --json lists all")
    out.line(
        f"  {len(planned.manifests)} manifests and {len(planned.blobs)} blobs are not needed any more,"
        f" {size(planned.bytes)}; {planned.kept_manifests} manifests and {planned.kept_blobs} blobs stay,"
        f" {size(planned.kept_bytes)}."
    )


def _show_pruned(context: Context, done: Pruned) -> None:
    out = context.out
    out.line(f"  {done.manifests} manifests and {done.blobs} blobs deleted, {size(done.bytes)} freed.")
    if done.marked:
        out.line(
            f"  {done.marked} objects have a delete marker now: the bucket keeps versions, and their bytes"
            " stay until these go, too (where the extra `lock` is installed, they are deleted here).",
            style="yellow",
        )
    if done.refused:
        lock = "Object Lock retains them" if done.is_locked else "this credential may not delete them"
        out.line(f"  {done.refused} objects were refused: {lock}: {done.why}", style="yellow")
