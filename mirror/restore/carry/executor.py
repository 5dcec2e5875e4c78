"""Carries a plan out against the target. See `Executor`."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from mirror.auth.secrets import Secret as SecretValue
from mirror.bitbucket.fields import identity
from mirror.errors import CredentialRefused, MirrorError, TryLater
from mirror.git.failures import GitNotFound
from mirror.http.requests import RequestFailed
from mirror.model import DONE, LATER, Clock, Json, JsonObject, Progress, value_at
from mirror.restore.carry.api import Api
from mirror.restore.carry.git import Git
from mirror.restore.carry.journal import Is, Journal, Noted
from mirror.restore.carry.lookup import Lookup, Place
from mirror.restore.carry.report import Entry, Outcome
from mirror.restore.carry.sending import WAITS, Sending, Sent, Unresolved
from mirror.restore.carry.values import agrees, resolved
from mirror.restore.plan.order import container_of
from mirror.restore.plan.source import Source
from mirror.restore.plan.steps import Call, Find, Loss, Made, Plan, Secret, Stage, Step, stand_ins

# A request that was on its way when the program was killed is over after a second.
SETTLED_AFTER = 1.0
# How long a server may answer 404 for what it has just made, in seconds.
NEW_FOR = 60.0
_NOT_THERE = frozenset({Outcome.REFUSED, Outcome.NOT_TRIED, Outcome.UNKNOWN})
# Fields of answers that are kept whether or not a later step needs them: what a thing is known by.
_ALWAYS_KEPT = ("uuid", "id")


class Executor:
    """Carries out the steps of a plan, stage by stage; the steps of one repository one after the other.

    What is inside a thing that this restore made is written without looking first, unless it goes on after
    an interruption: a person may have been there meanwhile. Everything else is looked for by its natural
    key, is never made twice, and is changed only with `overwrite`. `entries` has the outcome of each step
    that was reached, `losses` what turned out not to come back, `stopped` what ended it early.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        api: Api,
        git: Git,
        journals: Mapping[str, Journal],
        sources: Mapping[str, Source],
        secrets: Mapping[str, SecretValue],
        overwrite: bool,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self.entries: dict[str, Entry] = {}
        self.losses: list[Loss] = []
        self.stopped: MirrorError | None = None
        self._plan = plan
        self._steps = {step.key: step for step in plan.steps}
        self._git = git
        self._sources = sources
        self._journals = journals
        self._secrets = secrets
        self._overwrite = overwrite
        self._clock = clock
        self._progress = progress
        self._goes_on = {name for name, journal in journals.items() if journal.steps}
        self._made: set[str] = set()
        # When this process made a repository or project, in monotonic seconds.
        self._made_at: dict[str, float] = {}
        self._answers: dict[str, Mapping[str, Json]] = {}
        # By the list that a thing is in, and its identity there: the steps that it is of.
        self._holders: dict[tuple[Place, str], set[str]] = defaultdict(set)
        self._lookup = Lookup(api, self._value_of)
        self._sending = Sending(
            api, self._lookup, sources, self._value_of, self._look, self._note, self._is_new, clock.sleep
        )
        self._kept = _fields_needed(plan.steps)

    async def run(self) -> None:
        """Carry out the plan, as far as the target allows. Raises OSError where the journal cannot be
        written."""
        try:
            await self._forget_what_is_gone()
        except MirrorError as error:  # without an answer nobody knows what the journal is worth
            self.stopped = error
        self._progress.expect(dict.fromkeys(self._steps, 1.0))
        for stage, steps in groupby(self._plan.steps, key=lambda step: step.stage):
            lanes: dict[str, list[Step]] = defaultdict(list)
            for step in steps:
                lanes[step.key.partition("/")[0]].append(step)
            async with asyncio.TaskGroup() as group:
                for lane in lanes.values():
                    group.create_task(self._carry_all(stage, lane))

    async def _carry_all(self, stage: Stage, steps: Sequence[Step]) -> None:
        for step in steps:
            if self.stopped is not None:
                return
            name = step.key.partition("/")[0]
            lane = self._sources[name].title if name in self._sources else name
            self._progress.report(lane, stage.name.lower().replace("_", " "))
            try:
                self.entries[step.key] = await self._carry(step)
            except (CredentialRefused, TryLater) as error:
                self.stopped = error
            self._progress.report(step.key, DONE)
            self._progress.report(lane, LATER)

    async def _forget_what_is_gone(self) -> None:
        """What the journal says was made inside a repository or project that is no longer there, was not."""
        for step in self._plan.steps:
            if step.stage > Stage.REPOSITORY:
                continue
            journal = self._journal_of(step.key)
            noted = journal.noted(step.key)
            if noted is None or noted.state is not Is.MADE:
                noted = journal.noted(_met_key(step))
            if noted is None:
                continue
            found = None if step.find is None else await self._lookup.find(step.find)
            if found is not None and _is_same(found, noted.answer):
                continue
            inside = step.key.partition("/")[0] if step.stage is Stage.REPOSITORY else step.key
            for key in [one for one in journal.steps if one == inside or one.startswith(f"{inside}/")]:
                journal.note(key, Is.OPEN, self._now())

    async def _carry(self, step: Step) -> Entry:
        """Carry out one step. Raises CredentialRefused and TryLater, which end the restore."""
        lacking = self._lacking(step)
        if lacking is not None:
            return lacking
        try:
            if not isinstance(step.action, Call):
                return await self._by_git(step)
            return await self._call(step, step.action)
        except Unresolved as error:
            return Entry.of(step, Outcome.REFUSED, error.message)
        except (CredentialRefused, TryLater):
            raise
        except MirrorError as error:
            status = error.status if isinstance(error, RequestFailed) else 0
            code = 0 if isinstance(error, RequestFailed) else error.exit_code
            return Entry.of(step, Outcome.REFUSED, _with_hint(error), status=status, code=code)

    async def _by_git(self, step: Step) -> Entry:
        for seconds in WAITS:
            try:
                return await self._git.carry(step)
            except GitNotFound:
                if not self._is_new(step):
                    raise
            await self._clock.sleep(seconds)
        return await self._git.carry(step)

    def _lacking(self, step: Step) -> Entry | None:
        """The entry of a step that cannot be tried, because what it needs is not there."""
        for key in step.after:
            entry = self.entries.get(key)
            if entry is None:
                continue
            # Of many refs that were pushed, most may be there.
            is_partial = entry.outcome is Outcome.REFUSED and not isinstance(self._steps[key].action, Call)
            if entry.outcome in _NOT_THERE and not is_partial:
                return Entry.of(step, Outcome.NOT_TRIED, f"because {entry.label} is not there")
            if entry.outcome is Outcome.LOST:
                why = next(loss.why for loss in self.losses if loss.key == key)
                self.losses.append(Loss(step.key, step.kind, step.label, why, f"it goes with {entry.label}"))
                return Entry.of(step, Outcome.LOST)
        return None

    async def _call(self, step: Step, call: Call) -> Entry:
        noted = self._journal_of(step.key).noted(step.key)
        if noted is not None and noted.state is not Is.SENDING:
            self._hold(step, noted.answer)
            if noted.state is Is.CHANGED:
                return Entry.of(step, Outcome.CHANGED)
            self._made.add(step.key)
            return Entry.of(step, Outcome.MADE)
        is_ours = self._is_inside_what_was_made(step)
        if noted is not None or not is_ours or step.key.partition("/")[0] in self._goes_on:
            if noted is not None:
                await self._settle(noted)
            if step.find is None:
                if noted is not None and call.method == "POST":
                    return Entry.of(step, Outcome.UNKNOWN, "the restore was interrupted while it was sent")
                if call.method != "POST" and not is_ours and not self._overwrite:
                    text = "what is there now cannot be read, and was left (see --overwrite)"
                    return Entry.of(step, Outcome.FOUND, text)
            else:
                found = await self._look(step, again=noted is not None)
                if found is not None:
                    return await self._met(step, found, is_ours=is_ours, was_sent=noted is not None)
        return await self._send(step, call, Outcome.MADE, is_ours=is_ours)

    async def _settle(self, noted: Noted) -> None:
        """Wait until a request that an earlier process sent must have been carried out."""
        left = noted.at + SETTLED_AFTER - self._now()
        if 0 < left <= SETTLED_AFTER:
            await self._clock.sleep(left)

    async def _met(self, step: Step, found: JsonObject, *, is_ours: bool, was_sent: bool = False) -> Entry:
        """The entry of a step whose thing is there. It is changed where it differs and may be changed.
        `was_sent`: an earlier process was about to send it. What is there is that, or, where it differs,
        what the server has by default, which no repository and no project is."""
        self._hold(step, found)
        if step.stage <= Stage.REPOSITORY and _is_known(found):
            self._journal_of(step.key).note(_met_key(step), Is.MADE, self._now(), _known_by(found))
        differing, change = self._differing(step, found), _change_of(step)
        if was_sent and (not (differing and change) or step.stage <= Stage.REPOSITORY):
            self._made.add(step.key)
            self._note_answer(step, Is.MADE, found)
            return Entry.of(step, Outcome.MADE)
        # What is secret cannot be compared: it is set again.
        fixed = [name for name in differing if name in step.fixed]
        is_open = fixed != differing or (change is not None and _has_secret(change))
        if is_open and change is not None and (self._overwrite or is_ours or was_sent):
            entry = await self._send(step, change, Outcome.CHANGED, is_ours=is_ours)
            notes = [entry.message, f"another value of {', '.join(fixed)} stays" if fixed else ""]
            return replace(entry, message="; ".join(one for one in notes if one))
        if not differing or step.is_passing:
            return Entry.of(step, Outcome.FOUND)
        hint = "which no request changes" if fixed == differing else "(see --overwrite)"
        text = f"it is there, and differs in {', '.join(differing)} {hint}"
        return Entry.of(step, Outcome.DIFFERS, text)

    def _differing(self, step: Step, found: JsonObject) -> list[str]:
        """The fields that are compared and are not as wanted. What is secret cannot be compared."""
        return [
            name
            for name, value in step.wanted.items()
            if not any(isinstance(one, Secret) for one in stand_ins(value))
            and not agrees(resolved(value, self._value_of), value_at(found, name))
        ]

    async def _send(self, step: Step, call: Call, outcome: Outcome, *, is_ours: bool) -> Entry:
        """Send a request, and its retries; `outcome` is what it means where it succeeds."""
        sent: Sent = await self._sending.send(step, call, is_change=outcome is Outcome.CHANGED)
        note = "; ".join(sent.notes)
        if sent.exists is not None and outcome is not Outcome.CHANGED:
            return await self._met(step, sent.exists, is_ours=is_ours)
        if sent.excuse is not None and sent.excuse.why is not None:
            self.losses.append(Loss(step.key, step.kind, step.label, sent.excuse.why, sent.excuse.note))
            return Entry.of(step, Outcome.LOST)
        if sent.excuse is not None:
            return Entry.of(step, Outcome.FOUND, sent.excuse.note)
        if sent.refusal is not None:
            status = sent.refusal.status if isinstance(sent.refusal, RequestFailed) else 0
            return Entry.of(step, sent.outcome, _with_hint(sent.refusal), status=status)
        answer = {**self._answers.get(step.key, {}), **sent.answer}
        if not self._has_what_is_needed(step, answer):
            found = await self._look(step) or await self._sending.look_patiently(step)
            if found is None and outcome is Outcome.MADE:
                # The journal leaves it open, so that a later run looks for it once more.
                return Entry.of(step, Outcome.UNKNOWN, _not_found(answer))
            answer |= found or {}
        if outcome is Outcome.MADE:
            self._made.add(step.key)
            self._made_at[step.key] = self._clock.monotonic()
        self._hold(step, answer)
        self._note_answer(step, Is.CHANGED if outcome is Outcome.CHANGED else Is.MADE, answer)
        return Entry.of(step, outcome, note)

    def _has_what_is_needed(self, step: Step, answer: JsonObject) -> bool:
        """Whether an answer says what later steps need, and, of a repository or project, which one it is."""
        if step.find is None:
            return True
        if any(value_at(answer, one) is None for one in self._kept.get(step.key, ())):
            return False
        return step.stage > Stage.REPOSITORY or (
            _is_known(answer) and self._lookup.matches(step.find, answer)
        )

    # -- what was made, and whose it is

    async def _look(self, step: Step, *, again: bool = True) -> JsonObject | None:
        """What is there of the thing of a step, unless it is another's. Raises as `Api.entries`."""
        if step.find is None:
            return None

        def is_free(wanted: Find, entry: JsonObject) -> bool:
            name = identity(entry)
            if name is None or (not wanted.key and wanted.marker is None):
                return True  # a single thing, which several steps may set
            holders = self._holders.get((self._lookup.place_of(wanted), name), set())
            return not holders or step.key in holders or not holders.isdisjoint(step.after)

        return await self._lookup.find(step.find, again=again, is_free=is_free)

    def _hold(self, step: Step, answer: Mapping[str, Json]) -> None:
        """Note the outcome of a step: two of one natural key are two things."""
        self._answers[step.key] = answer
        name = identity(dict(answer))
        if step.find is not None and name is not None:
            self._holders[self._lookup.place_of(step.find), name].add(step.key)

    def _is_inside_what_was_made(self, step: Step) -> bool:
        """Whether this restore made what the thing is inside of, so that only it can be there already."""
        around = container_of(step)
        return bool(around) and around <= self._made

    def _is_new(self, step: Step) -> bool:
        """Whether the server may not know everywhere yet what the thing of a step is inside of."""
        since = self._clock.monotonic() - NEW_FOR
        around = {*container_of(step), *step.after}
        return any(self._made_at.get(key, since) > since for key in around)

    def _value_of(self, one: Made | Secret) -> Json:
        """What stands for something else in a plan. Raises Unresolved where that is not known."""
        if isinstance(one, Secret):
            if one.key not in self._secrets:
                raise Unresolved(f"the secrets file has no {one.key}")
            return self._secrets[one.key].reveal()
        value = value_at(self._answers.get(one.step, {}), one.field)
        if value is None:
            value = self._answers.get(one.step, {}).get(one.field)  # as the journal keeps it
        if value is None:
            raise Unresolved(f"the {one.field} of {one.step} is not known")
        return value

    def _journal_of(self, key: str) -> Journal:
        return self._journals[key.partition("/")[0]]

    def _note(self, step: Step, state: Is) -> None:
        self._journal_of(step.key).note(step.key, state, self._now())

    def _note_answer(self, step: Step, state: Is, answer: Mapping[str, Json]) -> None:
        fields = {*_ALWAYS_KEPT, *self._kept.get(step.key, ())}
        kept = {one: value for one in sorted(fields) if (value := value_at(answer, one)) is not None}
        self._journal_of(step.key).note(step.key, state, self._now(), kept)

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _change_of(step: Step) -> Call | None:
    """How what exists is changed."""
    if step.change is not None:
        return step.change
    return step.action if isinstance(step.action, Call) and step.action.method != "POST" else None


def _met_key(step: Step) -> str:
    """Under which key the journal keeps which repository or project was met, so that a later run sees where
    another one has taken its place."""
    return f"{step.key}/met"


def _known_by(answer: Mapping[str, Json]) -> JsonObject:
    return {name: answer[name] for name in _ALWAYS_KEPT if answer.get(name) is not None}


def _is_known(answer: Mapping[str, Json]) -> bool:
    return bool(_known_by(answer))


def _is_same(found: JsonObject, noted: Mapping[str, Json]) -> bool:
    """Whether what was found is what was made: by its uuid, or by its id where the forge has no uuids."""
    name = "uuid" if "uuid" in noted else "id"
    return noted.get(name) is not None and found.get(name) == noted[name]


def _not_found(answer: JsonObject) -> str:
    name = answer.get("full_name") or answer.get("name")
    made = f", and says that it made {name}" if isinstance(name, str) else ""
    return f"the server accepted it{made}, but it is not found there"


def _has_secret(call: Call) -> bool:
    return any(isinstance(one, Secret) for one in stand_ins(call.body))


def _with_hint(error: MirrorError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message


def _fields_needed(steps: Sequence[Step]) -> dict[str, set[str]]:
    """The fields of each step's answer that other steps stand upon."""
    needed: dict[str, set[str]] = defaultdict(set)
    for step in steps:
        for one in stand_ins(step):
            if isinstance(one, Made):
                needed[one.step].add(one.field)
    return needed
