"""Writing what pipelines are set up with: variables, keys, schedules and environments."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from mirror.simulator.answers import answer
from mirror.simulator.api.calls import Forbidden, Hidden, need_braces
from mirror.simulator.api.paging import BadRequest
from mirror.simulator.api.render_places import pipeline_time
from mirror.simulator.writes.calls import Document, Refused, Write, WriteRoute, created, nothing
from mirror.simulator.writes.kept import Place, new_uuid, of_repository, of_workspace
from mirror.simulator.writes.places import R, W
from mirror.simulator.writes.shapes import Anything, Fields, Flag, Shape, Text, Whole

Handler = Callable[[Write], Response]
# Whose variables they are, and under which name they are kept.
Variables = Callable[[Write], tuple[Place, str]]
DISABLED = "Pipelines is not enabled for this repository."
TOO_MANY_SCHEDULES = "You have reached the maximum limit of schedules for this repository."
# Stage, name and rank of the environments that Bitbucket makes by itself.
USUAL = (("Test", "Test", 0), ("Staging", "Staging", 1), ("Production", "Production", 2))
_VARIABLE: dict[str, Shape] = {"key": Text(), "value": Text(), "secured": Flag(), "uuid": Text()}
VARIABLE = Fields(_VARIABLE)
NEW_VARIABLE = Fields(_VARIABLE, ("key", "value"))
CONFIG = Fields({"enabled": Flag(), "repository": Anything()})
NUMBER = Fields({"next": Whole()}, ("next",))
KEY_PAIR = Fields({"private_key": Text(), "public_key": Text()})
HOST = Fields(
    {
        "uuid": Text(), "hostname": Text(),
        "public_key": Fields(
            {"key_type": Text(), "key": Text(), "md5_fingerprint": Text(), "sha256_fingerprint": Text()}
        ),
    }
)  # fmt: skip
SCHEDULE = Fields(
    {
        "enabled": Flag(), "cron_pattern": Text(),
        "target": Fields(
            {
                "type": Text(), "ref_name": Text(), "ref_type": Text(("branch",)),
                "selector": Fields(
                    {"type": Text(("branches", "tags", "bookmarks", "default", "custom")), "pattern": Text()},
                    needs=("type",),
                ),
            },
            needs=("selector", "ref_name", "ref_type"),
        ),
    },
    needs=("target", "cron_pattern"),
)  # fmt: skip
ENVIRONMENT = Fields(
    {
        "uuid": Text(), "name": Text(), "rank": Whole(),
        "environment_type": Fields({"name": Text(("Test", "Staging", "Production")), "rank": Whole()}),
    }
)  # fmt: skip
CHANGES = Fields(
    {"change": Fields({"name": Text(), "rank": Whole(), "restrictions": Anything()})}, needs=("change",)
)
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def set_up(call: Write) -> Place:
    """The settings of the repository named in the address, where they may be written now."""
    place = of_repository(call)
    assert place.repository is not None
    if not place.repository.pipelines_enabled and call.switches.pipelines_settings_need_pipelines:
        raise Forbidden(DISABLED)
    return place


def _configure(call: Write) -> Response:
    place = of_repository(call)
    repository = place.repository
    assert repository is not None
    was_enabled = place.settings.get("pipelines_config", {}).get("enabled", False)
    repository.pipelines_enabled = call.given.get("enabled", was_enabled)
    place.settings["pipelines_config"] = {
        "type": "pipelines_config",
        "enabled": repository.pipelines_enabled,
    }
    comes = call.switches.environments_come_with_pipelines and not place.list("environments")
    if repository.pipelines_enabled and not was_enabled and comes:
        place.settings["environments"] = [_environment(*one) for one in USUAL]
    return answer(place.shown(call, place.settings["pipelines_config"]))


def _set_build_number(call: Write) -> Response:
    repository, wanted = call.repository(), call.given["next"]
    latest = max(repository.pipelines, default=0)
    if wanted <= latest:
        raise BadRequest(f"The next build number must be higher than {latest}.")
    repository.next_build = wanted
    return answer({"type": "pipeline_build_number", "next": wanted})


# -- variables


def _create_variable(where: Variables) -> Handler:
    def handler(call: Write) -> Response:
        place, name = where(call)
        made = {"type": "pipeline_variable", "uuid": new_uuid(), "secured": False}
        return created(place.shown(call, place.add(name, _variable(call, made, place.list(name)))))

    return handler


def _update_variable(where: Variables) -> Handler:
    def handler(call: Write) -> Response:
        place, name = where(call)
        old = place.find(name, "uuid", call.names["variable"], "Variable")
        new = _variable(call, old, place.list(name))
        return answer(place.shown(call, place.replace(name, old, new)))

    return handler


def _delete_variable(where: Variables) -> Handler:
    def handler(call: Write) -> Response:
        place, name = where(call)
        place.remove(name, place.find(name, "uuid", call.names["variable"], "Variable"))
        return nothing()

    return handler


def _variable(call: Write, old: Document, others: list[Any]) -> Document:
    """What the body makes of a variable. A secured one's value is kept where nobody reads it."""
    given = call.given
    key = given.get("key", old.get("key"))
    if not _KEY.fullmatch(key or ""):
        raise BadRequest("key: A variable's name has letters, digits and underscores.")
    if any(one["key"] == key and one["uuid"] != old["uuid"] for one in others):
        raise Refused(409, f"A variable with the name {key} already exists.")
    new: Document = {**old, "key": key, "secured": given.get("secured", old["secured"])}
    value = str(given.get("value", old.get("value", call.world.secrets.get(old["uuid"], ""))))
    if new["secured"]:
        new.pop("value", None)
        call.world.secrets[new["uuid"]] = value
    else:
        new["value"] = value
    return new


def _of_repository(call: Write) -> tuple[Place, str]:
    return set_up(call), "variables"


def _of_workspace(call: Write) -> tuple[Place, str]:
    return of_workspace(call), "variables"


def _of_environment(call: Write) -> tuple[Place, str]:
    place = set_up(call)
    assert place.repository is not None
    found = place.find("environments", "uuid", call.names["environment"], "Environment")
    return Place(place.repository.environment_variables, place.workspace, place.repository), found["uuid"]


# -- keys and hosts


def _put_key_pair(call: Write) -> Response:
    place, given = set_up(call), call.given
    if "public_key" not in given and "private_key" not in given:
        raise BadRequest("public_key: required key not provided")
    old = place.settings.get("key_pair", {}).get("public_key", "")
    place.settings["key_pair"] = {
        "type": "pipeline_ssh_key_pair",
        "public_key": given.get("public_key", old),
    }
    if "private_key" in given and place.repository is not None:
        call.world.secrets[place.repository.uuid] = given["private_key"]
    return answer(place.shown(call, place.settings["key_pair"]))


def _delete_key_pair(call: Write) -> Response:
    place = set_up(call)
    if place.settings.pop("key_pair", None) is None:
        raise Hidden("There is no key pair")
    return nothing()


def _create_host(call: Write) -> Response:
    place, given = set_up(call), call.given
    if not given.get("hostname") or not given.get("public_key"):
        raise BadRequest("hostname, public_key: required key not provided")
    if any(one["hostname"] == given["hostname"] for one in place.list("known_hosts")):
        raise Refused(409, f"The host {given['hostname']} is known already.")
    made: Document = {"type": "pipeline_known_host", "uuid": new_uuid()}
    return created(place.shown(call, place.add("known_hosts", _host(call, made))))


def _host(call: Write, old: Document) -> Document:
    new = dict(old)
    if "hostname" in call.given:
        new["hostname"] = call.given["hostname"]
    if "public_key" in call.given:
        given = {name: value for name, value in call.given["public_key"].items() if value is not None}
        new["public_key"] = {**old.get("public_key", {}), **given, "type": "pipeline_ssh_public_key"}
    return new


def _update_host(call: Write) -> Response:
    place = set_up(call)
    old = place.find("known_hosts", "uuid", call.names["host"], "Known host")
    return answer(place.shown(call, place.replace("known_hosts", old, _host(call, old))))


def _delete_host(call: Write) -> Response:
    place = set_up(call)
    place.remove("known_hosts", place.find("known_hosts", "uuid", call.names["host"], "Known host"))
    return nothing()


# -- schedules


def _create_schedule(call: Write) -> Response:
    place, given = set_up(call), call.given
    if len(place.list("schedules")) >= call.world.sizes["schedules"]:
        raise Refused(401 if call.switches.too_many_schedules_is_401 else 400, TOO_MANY_SCHEDULES)
    if len(given["cron_pattern"].split()) != 7:
        raise BadRequest("cron_pattern: A pattern has seven fields.")
    now = pipeline_time(call.world.now())
    target, selector = given["target"], given["target"]["selector"]
    made: Document = {
        "type": "pipeline_schedule", "uuid": new_uuid(), "enabled": given.get("enabled", True),
        "cron_pattern": given["cron_pattern"], "created_on": now, "updated_on": now,
        "target": {
            "type": "pipeline_ref_target", "ref_type": target["ref_type"], "ref_name": target["ref_name"],
            "selector": {name: selector[name] for name in ("type", "pattern") if name in selector},
        },
    }  # fmt: skip
    return created(place.shown(call, place.add("schedules", made)))


def _update_schedule(call: Write) -> Response:
    place = set_up(call)
    old = place.find("schedules", "uuid", call.names["schedule"], "Schedule")
    enabled = call.given.get("enabled", old["enabled"])
    new = {**old, "enabled": enabled, "updated_on": pipeline_time(call.world.now())}
    return answer(place.shown(call, place.replace("schedules", old, new)))


def _delete_schedule(call: Write) -> Response:
    place = set_up(call)
    place.remove("schedules", place.find("schedules", "uuid", call.names["schedule"], "Schedule"))
    return nothing()


# -- environments


def _environment(name: str, stage: str, rank: int) -> Document:
    stages = [one for one, _, _ in USUAL]
    return {
        "type": "deployment_environment", "uuid": new_uuid(), "name": name, "rank": rank,
        "slug": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
        "environment_type": {
            "type": "deployment_environment_type", "name": stage, "rank": stages.index(stage),
        },
    }  # fmt: skip


def _create_environment(call: Write) -> Response:
    place, given = set_up(call), call.given
    if not given.get("name"):
        raise BadRequest("name: required key not provided")
    if any(one["name"].lower() == given["name"].lower() for one in place.list("environments")):
        raise Refused(409, f"An environment with the name {given['name']} already exists.")
    stage = given.get("environment_type", {}).get("name", "Test")
    rank = given.get("rank", len(place.list("environments")))
    made = _environment(given["name"], stage, rank)
    return created(place.shown(call, place.add("environments", made)))


def _change_environment(call: Write) -> Response:
    place = set_up(call)
    old = place.find("environments", "uuid", call.names["environment"], "Environment")
    place.replace("environments", old, {**old, **call.given["change"]})
    return answer({}, 202)


def _delete_environment(call: Write) -> Response:
    place = set_up(call)
    need_braces(call.names["environment"])
    found = place.find("environments", "uuid", call.names["environment"], "Environment")
    place.remove("environments", found)
    return nothing()


_ADMIN = ("repository:admin",), ("admin:repository:bitbucket",)
_VARIABLES = ("pipeline:variable",), ("admin:pipeline:bitbucket",)
_SCHEDULES = ("pipeline:write",), ("read:pipeline:bitbucket", "write:pipeline:bitbucket")
_NO_SCHEDULE = ("pipeline:write",), ("write:pipeline:bitbucket",)
_ENVIRONMENTS = ("pipeline",), ("admin:pipeline:bitbucket",)
_CONFIG = R + "/pipelines_config"
_HOST = _CONFIG + "/ssh/known_hosts"
_SCHEDULE = _CONFIG + "/schedules"
_ENVIRONMENT = R + "/environments"


def _variables(address: str, where: Variables) -> tuple[WriteRoute, ...]:
    """The routes of variables at an address."""
    one = address + "/{variable}"
    return (
        WriteRoute("POST", address, *_VARIABLES, _create_variable(where), NEW_VARIABLE),
        WriteRoute("PUT", one, *_VARIABLES, _update_variable(where), VARIABLE),
        WriteRoute("DELETE", one, *_VARIABLES, _delete_variable(where)),
    )


PIPELINES: tuple[WriteRoute, ...] = (
    WriteRoute("PUT", _CONFIG, *_ADMIN, _configure, CONFIG),
    WriteRoute("PUT", _CONFIG + "/build_number", *_VARIABLES, _set_build_number, NUMBER),
    *_variables(_CONFIG + "/variables", _of_repository),
    *_variables(W + "/pipelines-config/variables", _of_workspace),
    *_variables(R + "/deployments_config/environments/{environment}/variables", _of_environment),
    WriteRoute("PUT", _CONFIG + "/ssh/key_pair", *_VARIABLES, _put_key_pair, KEY_PAIR),
    WriteRoute("DELETE", _CONFIG + "/ssh/key_pair", *_VARIABLES, _delete_key_pair),
    WriteRoute("POST", _HOST, *_VARIABLES, _create_host, HOST),
    WriteRoute("PUT", _HOST + "/{host}", *_VARIABLES, _update_host, HOST),
    WriteRoute("DELETE", _HOST + "/{host}", *_VARIABLES, _delete_host),
    WriteRoute("POST", _SCHEDULE, *_SCHEDULES, _create_schedule, SCHEDULE),
    WriteRoute("PUT", _SCHEDULE + "/{schedule}", *_SCHEDULES, _update_schedule, Fields({"enabled": Flag()})),
    WriteRoute("DELETE", _SCHEDULE + "/{schedule}", *_NO_SCHEDULE, _delete_schedule),
    WriteRoute("POST", _ENVIRONMENT, *_ENVIRONMENTS, _create_environment, ENVIRONMENT),
    WriteRoute("DELETE", _ENVIRONMENT + "/{environment}", *_ENVIRONMENTS, _delete_environment),
    WriteRoute("POST", _ENVIRONMENT + "/{environment}/changes", *_ENVIRONMENTS, _change_environment, CHANGES),
)
