"""Settings: small things that change seldom, so they are asked for on a period of their own.

One round asks for every row of the catalogue; one that is stopped is gone on with where it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.budget import Priority
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.endpoints import Endpoint
from mirror.bitbucket.failures import ApiError, Denied, EntriesLost
from mirror.bitbucket.lists import all_of, all_told, entries_lost, pages
from mirror.collect.catalogue import Row, rows
from mirror.collect.kinds.files import keep_file
from mirror.collect.outcomes import child_of, judged, named, not_all
from mirror.collect.ports import Work
from mirror.errors import MirrorError, TryLater
from mirror.model import Json, JsonObject, Part, PartState, time_text

# At the latest after so long; sooner only with requests that nobody else wants.
EVERY = timedelta(days=7)
IDLE_EVERY = timedelta(days=1)
# Priority of asking again for what was refused or failed.
RETRY = Priority.CLOSED
MARKS = "settings/_parts.json"
PROFILE = "repository.json"
EXECUTIONS = "settings/schedule-executions.json"
_STATE = "settings"

Names = Mapping[str, str | int]
Collect = Callable[[Work, Client, Row], Awaitable[None]]


def round_priority(work: Work) -> Priority | None:
    """Priority of a round now; None while it is too early for one."""
    state = work.part_state(_STATE)
    if "asked" not in state or work.full:
        return Priority.OPEN
    if work.is_due(state, "asked", EVERY):
        return Priority.OLD
    return Priority.IDLE if work.is_due(state, "asked", IDLE_EVERY) else None


def lacking(work: Work) -> set[str]:
    """The kinds that were refused or failed when they were last asked for, and that nobody agreed to miss.
    They are asked for in each run: what is mended upstream is not left for the next round."""
    kinds: JsonObject = work.part_state(_STATE).get("kinds") or {}
    return {
        name
        for name, one in kinds.items()
        if one["state"] in (PartState.DENIED, PartState.PARTIAL) and not _is_agreed(one, work)
    }


class Round:
    """One round over `several` rows, each asked for by `special` where it is there by name. The marks
    say of each kind what could not be had and why.

    Where no round is due (`only_lacking`), what was refused or failed is asked for, and nothing else.
    """

    def __init__(
        self,
        work: Work,
        priority: Priority,
        several: Sequence[Row],
        special: Mapping[str, Collect],
        *,
        only_lacking: bool = False,
    ) -> None:
        self._work = work
        self._special = special
        self._rows = [row for row in several if special.get(row.name) is not with_another]
        self._only_lacking = only_lacking
        self._lacking = lacking(work)
        self._client = work.asking(priority)
        self._state = work.part_state(_STATE)
        held = work.draft.get(MARKS)
        self._marks: JsonObject = dict(held) if isinstance(held, dict) else {}
        self._done: list[str] = list(self._state.get("done") or [])
        # What was answered in this turn, and why the others could not be read.
        self._answered: set[str] = set()
        self._reasons: dict[str, str] = {}

    async def run(self) -> None:
        """Ask for every row. Raises only where the credential as a whole is refused."""
        failed = False
        for row in self._rows:
            if self._work.stopped is not None:
                break
            if row.name not in self._lacking and (self._only_lacking or row.name in self._done):
                continue
            if (_STATE, 0, row.name) in self._work.tried:
                continue  # what failed in this turn is for the next run
            if await self._ask(row):
                self._answered.add(row.name)
            else:
                failed = True
                continue
            # Before the row counts as done: whoever is killed here would leave what was denied as complete.
            self._put_marks()
            self._note_done(row)
            self._work.tick()
        self._put_marks()
        before: JsonObject = self._state.get("kinds") or {}
        self._state["kinds"] = {row.name: self._stand(row, before.get(row.name)) for row in self._rows}
        if not self._only_lacking and self._work.stopped is None and not failed:
            self._state.pop("done", None)
            self._state["asked"] = time_text(self._work.clock.now())
        self._work.checkpoint()

    def _note_done(self, row: Row) -> None:
        if not self._only_lacking and row.name not in self._done:
            self._done.append(row.name)
            self._state["done"] = list(self._done)

    async def _ask(self, row: Row) -> bool:
        """Ask for a row; returns whether there was an answer, if only a refusal. Otherwise the next run
        asks again."""
        try:
            refuse_known(self._work, row.endpoint)
            await self._special.get(row.name, plain)(self._work, self._client, row)
            self._marks.pop(row.name, None)
            self._work.answered(row.endpoint)
        except MirrorError as error:
            self._work.tried.add((_STATE, 0, row.name))
            self._reasons[row.name] = error.message
            self._marks[row.name] = await self._mark(row, error)
            return not isinstance(error, TryLater)
        return True

    def _put_marks(self) -> None:
        held = self._work.draft.get(MARKS)
        if self._marks != (held or {}):
            self._work.put(MARKS, dict(self._marks))

    async def _mark(self, row: Row, error: MirrorError) -> JsonObject:
        """Why a kind could not be had. When it went is kept from the first time on."""
        if isinstance(error, TryLater):
            self._work.failed(row.part, row.kind, error, row.endpoint)
            return {"state": str(PartState.PARTIAL)}
        note_lacking(self._work, row.endpoint, error)
        is_held = self._was_held(row)
        before = self._marks.get(row.name) or {}
        is_told = before.get("state") == PartState.GONE  # not as missing again
        part = await judged(self._work, row, error, is_held=is_held and not is_told)
        self._reasons[row.name] = part.reason or error.message
        mark: JsonObject = {"state": str(part.state)}
        if part.scope is not None:
            mark["scope"] = part.scope
        # Of what was never there it cannot be said since when it is gone.
        if part.state is PartState.GONE and is_held:
            mark["since"] = before.get("since") or time_text(self._work.clock.now())
        return mark

    def _was_held(self, row: Row) -> bool:
        folder, _, name = row.document.rpartition("/")
        if name.startswith("<"):
            return next(self._work.draft.paths(folder), None) is not None
        return self._work.draft.get(row.document) is not None

    def _stand(self, row: Row, before: JsonObject | None) -> JsonObject:
        """How a kind stands after this turn."""
        mark, is_asked = self._marks.get(row.name), row.name in self._answered
        if not is_asked and row.name not in self._reasons and before is not None:
            return before
        asked = PartState.COMPLETE if is_asked or row.name in self._done else PartState.PARTIAL
        stand = {"part": row.part, "kind": row.kind, "state": mark["state"] if mark else str(asked)}
        if mark and mark.get("scope"):
            stand["scope"] = mark["scope"]
        if mark and row.name in self._reasons:
            stand["reason"] = self._reasons[row.name]
        # What was answered, and yet could not be read, is no matter of time.
        return {
            **stand,
            "agreed_as": row.agreed_as,
            "is_passing": not is_asked and row.name not in self._done,
        }


def refuse_known(work: Work, endpoint: Endpoint) -> None:
    """Raise the refusal that is known already: a single credential that lacks a scope lacks it everywhere,
    and is asked for it once in a run."""
    known = work.lacking.get(endpoint.scope)
    if known is not None:
        told = known.message.partition(": ")[2]
        error = Denied(f"{endpoint.name}: {told}", status=known.status, endpoint=endpoint.name)
        error.required, error.granted, error.said = known.required, known.granted, known.said
        raise error


def note_lacking(work: Work, endpoint: Endpoint, error: MirrorError) -> None:
    """Remember that the scope of an endpoint is lacking, where the refusal names it and nobody else could
    have it."""
    if not isinstance(error, Denied) or error.endpoint != endpoint.name or len(work.client.sign_ins) != 1:
        return
    if set(error.required) & {endpoint.scope, endpoint.api_token_scope}:
        work.lacking.setdefault(endpoint.scope, error)


async def ask(client: Client, endpoint: Endpoint, names: Names) -> Json:
    """What an endpoint gives: a list, in an order of our own, or a single thing. Raises BadAnswer where it
    is neither."""
    if endpoint.page_size:
        return fields.ordered(await all_of(client, endpoint, None, **names))
    return fields.stable((await client.get(endpoint, None, **names)).object(endpoint.name))


async def plain(work: Work, client: Client, row: Row) -> None:
    """Bring the one document of a row up to date."""
    try:
        work.put(row.document, await ask(client, row.endpoint, work.names))
    except EntriesLost as error:
        work.put(row.document, fields.with_held(work.draft.get(row.document), error.values))
        raise


# -- those of a repository that are more than one document with one answer


async def _merge_strategies(work: Work, client: Client, row: Row) -> None:
    branch = fields.main_branch(work.draft.get(PROFILE))
    if branch is not None:  # an empty repository has none
        work.put(row.document, await ask(client, row.endpoint, {**work.names, "branch": branch}))


async def _environments(work: Work, client: Client, row: Row) -> None:
    """Each with its variables. Those that could not be had of one do not keep the others out."""
    several, odd = named(
        *await all_told(client, row.endpoint, None, **work.names),
        lambda one: fields.uuid_of(one, "environment"),
    )
    faults: list[ApiError] = []
    for uuid, one in several:
        path = f"environments/{uuid.strip('{}')}.json"
        held = work.draft.get(path)
        document: JsonObject = {"environment": fields.stable(one), "variables": None, "_parts": {}}
        old: JsonObject = held if isinstance(held, dict) else {}
        if round_priority(work) is None and old.get("variables") is not None and not old.get("_parts"):
            work.put(path, {**document, "variables": old["variables"]})
            continue  # only what is lacking is asked for
        try:
            if faults and isinstance(faults[-1], Denied):
                raise faults[-1]  # as for the one before
            names = {**work.names, "environment": uuid}
            document["variables"] = await ask(client, endpoints.ENVIRONMENT_VARIABLES, names)
        except ApiError as error:
            faults.append(error)
            document["variables"] = old.get("variables")
            document["_parts"] = {"variables": child_of(error)}
        work.put(path, document)
    if odd:
        raise not_all([*odd, *faults])
    mark_gone(work, "environments", {uuid.strip("{}") for uuid, _ in several}, "environment")
    if faults and "settings/environment-variables" not in work.agreed:
        raise not_all(faults)


async def _schedules(work: Work, client: Client, row: Row) -> None:
    """The schedules, and what each has started, by its uuid; that of a schedule that is gone stays."""
    found, lost = await all_told(client, row.endpoint, None, **work.names)
    before = work.draft.get(row.document)
    work.put(row.document, fields.ordered(found) if lost is None else fields.with_held(before, found))
    held = work.draft.get(EXECUTIONS)
    kept: JsonObject = dict(held) if isinstance(held, dict) else {}
    several, odd = named(found, lost, lambda one: fields.uuid_of(one, "schedule"))
    faults: list[ApiError] = []
    for uuid, _ in several:
        names = {**work.names, "schedule": uuid}
        try:
            kept[uuid] = await ask(client, endpoints.SCHEDULE_EXECUTIONS, names)
        except ApiError as error:
            faults.append(error)
    if kept:
        work.put(EXECUTIONS, kept)
    if odd:
        raise not_all([*odd, *faults])
    if faults and "settings/schedule-executions" not in work.agreed:
        raise not_all(faults)


async def _deployments(work: Work, client: Client, row: Row) -> None:
    """All of them: the list can be neither filtered nor sorted."""
    seen = set()
    faults: list[ApiError] = []
    async for page in pages(client, row.endpoint, None, **work.names):
        lost = entries_lost(row.endpoint, page.lost) if page.lost else None
        several, odd = named(page.values, lost, lambda one: fields.uuid_of(one, "deployment"))
        faults += odd
        for uuid, one in several:
            path = f"deployments/{uuid.strip('{}')}.json"
            held = work.draft.get(path)
            before = held.get("deployment") if isinstance(held, dict) else None
            work.put(path, {"deployment": fields.merged(before, fields.stable(one)), "_parts": {}})
            seen.add(uuid.strip("{}"))
    if faults:
        raise not_all(faults)
    mark_gone(work, "deployments", seen, "deployment")


def mark_gone(work: Work, folder: str, seen: set[str], key: str) -> None:
    """What a whole list lacks keeps its last document, marked with when it went. `seen` are the names of
    the documents of what it has."""
    for path in list(work.draft.paths(folder)):
        document = work.draft.get(path)
        if path.rpartition("/")[2].removesuffix(".json") in seen or not isinstance(document, dict):
            continue
        if key not in (document.get("_parts") or {}):
            mark = {"state": str(PartState.GONE), "since": time_text(work.clock.now())}
            work.put(path, {**document, "_parts": {**(document.get("_parts") or {}), key: mark}})


async def _downloads(work: Work, client: Client, row: Row) -> None:
    """The list, and each file that is new. A file that was removed stays, marked."""
    held = work.draft.get(row.document)
    before = {fields.file_name(one): one for one in held or []}
    kept: list[JsonObject] = []
    several, faults = named(*await all_told(client, row.endpoint, None, **work.names), fields.file_name)
    is_whole = not faults
    for name, one in several:
        old = {key: value for key, value in before.pop(name, {}).items() if key != "_gone"}
        content = old.get("_content")
        if not (fields.is_same_file(old, one) and _is_whole(work, one, content)):
            try:
                content = await _download(work, client, one)
            except ApiError as error:
                faults.append(error)
                if content:  # as a whole: beside the new size and time the old bytes would pass for the new
                    kept.append(old)
                    continue
        kept.append({**one, "_content": content})
    gone = {"state": str(PartState.GONE), "since": time_text(work.clock.now())}
    kept += [{"_gone": gone, **one} if is_whole else one for one in before.values()]
    work.put(row.document, sorted((fields.stable(one) for one in kept), key=fields.file_name))
    if faults:
        raise not_all(faults)


async def _download(work: Work, client: Client, listed: JsonObject) -> JsonObject:
    name, size = fields.file_name(listed), fields.file_size(listed)
    places: Names = {**work.names, "name": name}
    return await keep_file(work, client, endpoints.DOWNLOAD, name, places, size=size)


def _is_whole(work: Work, listed: JsonObject, content: JsonObject | None) -> bool:
    """Whether the content of a listed file is held, and as large as the list says."""
    if not content or not work.draft.has_file(content["sha256"]):
        return False
    return fields.file_size(listed) in (None, content["size"])


async def with_another(work: Work, client: Client, row: Row) -> None:
    """It comes with another row."""


_SPECIAL: dict[str, Collect] = {
    "merge_strategies": _merge_strategies,
    "environments": _environments,
    "environment_variables": with_another,
    "deployments": _deployments,
    "schedules": _schedules,
    "schedule_executions": with_another,
    "downloads": _downloads,
    "downloaded_files": with_another,
}


def rows_wanted(work: Work, wanted: Sequence[str]) -> list[Row]:
    """The rows of one round over a repository. A tracker that is gone has no milestones either."""
    absent = "absent" in work.part_state("issues")
    return [
        row
        for row in rows(level="repository")
        if row.upkeep == "slowly" and row.part in wanted and not (absent and row.part == "issues")
    ]


async def collect_settings(work: Work, priority: Priority, wanted: Sequence[str]) -> None:
    """One round over the settings of a repository, where one has this priority now; else what the last one
    lacks. `wanted` are the parts that are.

    Raises only where the credential as a whole is refused.
    """
    is_round = round_priority(work) is priority
    attempt = (_STATE, 0, "round" if is_round else "what is lacking")
    if attempt not in work.tried and (is_round or (priority is RETRY and lacking(work))):
        work.tried.add(attempt)
        several = rows_wanted(work, wanted)
        await Round(work, priority, several, _SPECIAL, only_lacking=not is_round).run()


def parts(work: Work) -> dict[str, Part]:
    """What snapshots say of the parts, as the last round left their kinds."""
    state = work.part_state(_STATE)
    kinds = state.get("kinds")
    if kinds is None:  # 0.3 kept the parts themselves
        found = {name: Part.from_json(data) for name, data in (state.get("parts") or {}).items()}
    else:
        names = dict.fromkeys(one["part"] for one in kinds.values())
        found = {name: _part([one for one in kinds.values() if one["part"] == name], work) for name in names}
    return found


def note_passing(work: Work, name: str, part: Part) -> None:
    """Note whether the next run may complete a part: where all that it lacks is still to be asked for."""
    kinds = work.part_state(_STATE).get("kinds") or {}
    lacking = [
        one for one in kinds.values()
        if one["part"] == name and one["state"] == PartState.PARTIAL and not _is_agreed(one, work)
    ]  # fmt: skip
    if part.state is PartState.PARTIAL and all(one.get("is_passing", True) for one in lacking):
        work.passing.add(name)
    else:
        work.passing.discard(name)


def _part(kinds: Sequence[JsonObject], work: Work) -> Part:
    """What a snapshot says of all kinds of one part together. Where the absence of one is agreed, it is
    told, and the part is no less complete."""
    states: dict[PartState, list[JsonObject]] = {}
    for one in kinds:
        states.setdefault(PartState(one["state"]), []).append(one)
    counts = {f"kinds_{state}": len(found) for state, found in sorted(states.items())}
    told = "; ".join(
        f"{state}: {', '.join(sorted(_named(one, work) for one in found))}{_why(found, work)}"
        for state, found in sorted(states.items())
        if state is not PartState.COMPLETE
    )
    lacking = {
        state: [one for one in states.get(state, []) if not _is_agreed(one, work)]
        for state in (PartState.DENIED, PartState.PARTIAL)
    }
    scopes = {str(one["scope"]) for one in lacking[PartState.DENIED] if "scope" in one}
    state = next((state for state, found in lacking.items() if found), None)
    if state is None:
        settled = states.keys() - lacking.keys()
        no_more = settled and PartState.COMPLETE not in settled and not states.keys() & lacking.keys()
        order = (PartState.UNAVAILABLE, PartState.GONE)
        state = next(one for one in order if one in settled) if no_more else PartState.COMPLETE
    return Part(state, counts, told or None, ", ".join(sorted(scopes)) or None)


def _is_agreed(kind: JsonObject, work: Work) -> bool:
    return kind["agreed_as"] in work.agreed


def _why(several: Sequence[JsonObject], work: Work) -> str:
    """Why the first of some kinds could not be read, where that is a gap."""
    gaps = [one for one in several if one["state"] in (PartState.DENIED, PartState.PARTIAL)]
    told = [one for one in gaps if one.get("reason") and not _is_agreed(one, work)]
    if not told:
        return ""
    first = min(told, key=lambda one: str(one["kind"]))
    return f" ({first['reason']}{', and others' if len(told) > 1 else ''})"


def _named(kind: JsonObject, work: Work) -> str:
    lacks = kind["state"] in (PartState.DENIED, PartState.PARTIAL)
    return f"{kind['kind']} (agreed)" if lacks and _is_agreed(kind, work) else str(kind["kind"])
