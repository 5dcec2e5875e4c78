"""The steps of pipelines' settings, which have an order of their own.

Bitbucket may take variables, environments and schedules only where pipelines are enabled, and enabled ones
build whatever comes: so they are enabled for these, disabled before pull requests are opened, and at the end
as they were; where nothing is opened they stay enabled. Schedules are made disabled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from mirror.bitbucket.writes import BUILD_NUMBER, SCHEDULES
from mirror.collect.catalogue import Row, row_of_kind
from mirror.model import JsonObject
from mirror.restore.plan.source import was_gone
from mirror.restore.plan.steps import Call, Excuse, Find, Loss, Made, Stage, Step, Why
from mirror.restore.plan.things import Place, steps_of_thing, write_of

Steps = Iterator[Step | Loss]
# What may need enabled pipelines, by the folder or document in which it is.
_FOR_BUILDS = (
    "environments",
    "settings/variables.json",
    "settings/schedules.json",
    "settings/known-hosts.json",
)


def _configuration(row: Row, place: Place) -> Steps:
    source, shown = place.source, place.source.object(row.document)
    is_enabled = shown.get("enabled") is True
    has_settings = any(source.paths(one) or source.document(one) for one in _FOR_BUILDS)
    has_pull_requests = bool(source.paths("pull-requests"))
    is_early = has_settings and is_enabled and not has_pull_requests
    if has_settings and not is_early:
        yield _switch(row, place, "for-settings", Stage.PIPELINES_ENABLED, is_enabled=True)
    if has_settings and has_pull_requests:
        yield _switch(row, place, "for-pull-requests", Stage.PIPELINES_DISABLED, is_enabled=False)
    if shown:
        for one in steps_of_thing(row, shown, place):
            if isinstance(one, Step) and is_early:
                yield replace(one, stage=Stage.PIPELINES_ENABLED)
            else:
                yield one
    yield from _build_number(row, place)


def _switch(row: Row, place: Place, word: str, stage: Stage, *, is_enabled: bool) -> Step:
    """A step that has pipelines enabled or disabled for a while."""
    state = {"enabled": is_enabled}
    call = Call("PUT", write_of(row).endpoint, place.parts, state)
    text = f"pipelines of {place.owner}, {'enabled' if is_enabled else 'disabled'} for a while"
    return Step(
        place.source.key("pipelines-configuration", word), row.kind, text, call, stage, place.after,
        Find(row.endpoint, place.parts), call, dict(state), is_passing=True,
    )  # fmt: skip


def _build_number(row: Row, place: Place) -> Steps:
    """The number of the next build: higher than any before. Bitbucket takes no lower one than it has."""
    names = (path.rpartition("/")[2].removesuffix(".json") for path in place.source.paths("pipelines"))
    numbers = [int(name) for name in names if name.isdigit()]
    if numbers:
        call = Call("PUT", BUILD_NUMBER.endpoint, place.parts, {"next": max(numbers) + 1})
        yield Step(
            place.source.key("build-number"), row.kind, f"next build number of {place.owner}", call,
            Stage.PIPELINES, place.after, excuses=(Excuse(400, "higher"),), is_passing=True,
        )  # fmt: skip


def _schedules(row: Row, place: Place) -> Steps:
    for schedule in place.source.entries(row.document):
        if not isinstance(schedule.get("target"), dict):
            key = place.key(row, str(schedule.get("cron_pattern")))
            label = f"{row.kind}: {schedule.get('cron_pattern')}"
            yield Loss(key, row.kind, label, Why.LACKING, "what it builds")
            continue
        for one in steps_of_thing(row, schedule, place, at_first={"enabled": False}):
            yield one
            if isinstance(one, Step) and schedule.get("enabled") is not False:
                yield _enabled(row, one)


def _enabled(row: Row, made: Step) -> Step:
    """The step that enables a schedule in the end."""
    assert isinstance(made.action, Call) and SCHEDULES.change is not None
    parts = {**made.action.parts, "id": Made(made.key, SCHEDULES.id)}
    call = Call("PUT", SCHEDULES.change.endpoint, parts, {"enabled": True})
    return Step(
        f"{made.key}/enabled", row.kind, f"{made.label}, enabled", call, Stage.PIPELINES_AS_THEY_WERE,
        (made.key,), made.find, call, {"enabled": True},
    )  # fmt: skip


def _environments(row: Row, place: Place) -> Steps:
    """The environments, each with its variables."""
    variables = row_of_kind("environment variables")
    for path in place.source.paths("environments"):
        document = place.source.object(path)
        shown = document.get("environment")
        if not isinstance(shown, dict) or was_gone(document, "environment"):
            continue
        for one in steps_of_thing(row, shown, place):
            yield one
            if not isinstance(one, Step):
                continue
            yield from _restricted(row, shown, one)
            inside = place.inside(
                "environments", str(shown.get("name")), after=one.key, environment=Made(one.key)
            )
            for variable in document.get("variables") or ():
                if isinstance(variable, dict):
                    yield from steps_of_thing(variables, variable, inside)


def _restricted(row: Row, shown: JsonObject, made: Step) -> Steps:
    """The step that lets only administrators deploy: what makes an environment does not take it."""
    restrictions = shown.get("restrictions")
    is_restricted = isinstance(restrictions, dict) and restrictions.get("admin_only") is True
    if not is_restricted or made.change is None:
        return
    wanted = {"admin_only": True}
    call = Call(
        made.change.method, made.change.endpoint, made.change.parts, {"change": {"restrictions": wanted}}
    )
    yield Step(
        f"{made.key}/restrictions", row.kind, f"{made.label}, for administrators", call, Stage.PIPELINES,
        (made.key,), made.find, call, {"restrictions.admin_only": True},
    )  # fmt: skip


def _with_environments(_row: Row, _place: Place) -> Steps:
    """Nothing: each environment brings its own."""
    return iter(())


PLANNERS: Mapping[str, Callable[[Row, Place], Steps]] = {
    "pipelines configuration": _configuration,
    "schedules": _schedules,
    "environments": _environments,
    "environment variables": _with_environments,
}
