"""Writing routes of pipelines: variables, keys, schedules and environments."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from mirror.simulator.api.paging import BadRequest
from mirror.simulator.api.render_repositories import pipeline_time
from mirror.simulator.api.routing import Forbidden, Hidden, need_braces
from mirror.simulator.responses import json_response
from mirror.simulator.writes.repositories import R, W
from mirror.simulator.writes.routing import Document, Refused, Write, WriteRoute, created, nothing
from mirror.simulator.writes.schemas import AnyValue, Boolean, Integer, Object, Schema, String
from mirror.simulator.writes.setting_lists import SettingsOwner, new_uuid, of_repository, of_workspace

Handler = Callable[[Write], Response]
# Returns the owner of the variables, and the name of their list.
Variables = Callable[[Write], tuple[SettingsOwner, str]]
DISABLED = "Pipelines is not enabled for this repository."
TOO_MANY_SCHEDULES = "You have reached the maximum limit of schedules for this repository."
# Stage, name and rank of the environments that Bitbucket creates.
USUAL = (("Test", "Test", 0), ("Staging", "Staging", 1), ("Production", "Production", 2))
_VARIABLE: dict[str, Schema] = {"key": String(), "value": String(), "secured": Boolean(), "uuid": String()}
VARIABLE = Object(_VARIABLE)
NEW_VARIABLE = Object(_VARIABLE, ("key", "value"))
CONFIG = Object({"enabled": Boolean(), "repository": AnyValue()})
NUMBER = Object({"next": Integer()}, ("next",))
KEY_PAIR = Object({"private_key": String(), "public_key": String()})
HOST = Object(
    {
        "uuid": String(), "hostname": String(),
        "public_key": Object(
            {
                "key_type": String(), "key": String(), "md5_fingerprint": String(),
                "sha256_fingerprint": String(),
            }
        ),
    }
)  # fmt: skip
SCHEDULE_CHANGE = Object({"enabled": Boolean()})
SCHEDULE = Object(
    {
        "enabled": Boolean(), "cron_pattern": String(),
        "target": Object(
            {
                "type": String(), "ref_name": String(), "ref_type": String(("branch",)),
                "selector": Object(
                    {
                        "type": String(("branches", "tags", "bookmarks", "default", "custom")),
                        "pattern": String(),
                    },
                    needs=("type",),
                ),
            },
            needs=("selector", "ref_name", "ref_type"),
        ),
    },
    needs=("target", "cron_pattern"),
)  # fmt: skip
ENVIRONMENT = Object(
    {
        "uuid": String(), "name": String(), "rank": Integer(),
        "environment_type": Object({"name": String(("Test", "Staging", "Production")), "rank": Integer()}),
    }
)  # fmt: skip
CHANGES = Object(
    {"change": Object({"name": String(), "rank": Integer(), "restrictions": AnyValue()})}, needs=("change",)
)
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def set_up(call: Write) -> SettingsOwner:
    """The settings of the repository named in the address, where they may be written now."""
    owner = of_repository(call)
    assert owner.repository is not None
    if not owner.repository.pipelines_enabled and call.switches.pipelines_settings_need_pipelines:
        raise Forbidden(DISABLED)
    return owner


def _configure(call: Write) -> Response:
    owner = of_repository(call)
    repository = owner.repository
    assert repository is not None
    was_enabled = owner.settings.get("pipelines_config", {}).get("enabled", False)
    repository.pipelines_enabled = call.given.get("enabled", was_enabled)
    owner.settings["pipelines_config"] = {
        "type": "pipelines_config",
        "enabled": repository.pipelines_enabled,
    }
    comes = call.switches.environments_come_with_pipelines and not owner.list("environments")
    if repository.pipelines_enabled and not was_enabled and comes:
        owner.settings["environments"] = [_environment(*one) for one in USUAL]
    return json_response(owner.shown(call, owner.settings["pipelines_config"]))


def _set_build_number(call: Write) -> Response:
    repository, wanted = call.repository(), call.given["next"]
    latest = max(repository.pipelines, default=0)
    if wanted <= latest:
        raise BadRequest(f"The next build number must be higher than {latest}.")
    repository.next_build = wanted
    return json_response({"type": "pipeline_build_number", "next": wanted})


# -- variables


def _create_variable(variables_of: Variables) -> Handler:
    def handler(call: Write) -> Response:
        owner, name = variables_of(call)
        made = {"type": "pipeline_variable", "uuid": new_uuid(), "secured": False}
        return created(owner.shown(call, owner.add(name, _variable(call, made, owner.list(name)))))

    return handler


def _update_variable(variables_of: Variables) -> Handler:
    def handler(call: Write) -> Response:
        owner, name = variables_of(call)
        old = owner.find(name, "uuid", call.names["variable"], "Variable")
        new = _variable(call, old, owner.list(name))
        return json_response(owner.shown(call, owner.replace(name, old, new)))

    return handler


def _delete_variable(variables_of: Variables) -> Handler:
    def handler(call: Write) -> Response:
        owner, name = variables_of(call)
        owner.remove(name, owner.find(name, "uuid", call.names["variable"], "Variable"))
        return nothing()

    return handler


def _variable(call: Write, old: Document, others: list[Any]) -> Document:
    """A variable changed by the body. The value of a secured one goes to `World.secrets`."""
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


def _of_repository(call: Write) -> tuple[SettingsOwner, str]:
    return set_up(call), "variables"


def _of_workspace(call: Write) -> tuple[SettingsOwner, str]:
    return of_workspace(call), "variables"


def _of_environment(call: Write) -> tuple[SettingsOwner, str]:
    owner = set_up(call)
    assert owner.repository is not None
    found = owner.find("environments", "uuid", call.names["environment"], "Environment")
    return SettingsOwner(owner.repository.environment_variables, owner.workspace, owner.repository), found[
        "uuid"
    ]


# -- keys and hosts


def _put_key_pair(call: Write) -> Response:
    owner, given = set_up(call), call.given
    if "public_key" not in given and "private_key" not in given:
        raise BadRequest("public_key: required key not provided")
    old = owner.settings.get("key_pair", {}).get("public_key", "")
    owner.settings["key_pair"] = {
        "type": "pipeline_ssh_key_pair",
        "public_key": given.get("public_key", old),
    }
    if "private_key" in given and owner.repository is not None:
        call.world.secrets[owner.repository.uuid] = given["private_key"]
    return json_response(owner.shown(call, owner.settings["key_pair"]))


def _delete_key_pair(call: Write) -> Response:
    owner = set_up(call)
    if owner.settings.pop("key_pair", None) is None:
        raise Hidden("There is no key pair")
    return nothing()


def _create_host(call: Write) -> Response:
    owner, given = set_up(call), call.given
    if not given.get("hostname") or not given.get("public_key"):
        raise BadRequest("hostname, public_key: required key not provided")
    if any(one["hostname"] == given["hostname"] for one in owner.list("known_hosts")):
        raise Refused(409, f"The host {given['hostname']} is known already.")
    made: Document = {"type": "pipeline_known_host", "uuid": new_uuid()}
    return created(owner.shown(call, owner.add("known_hosts", _host(call, made))))


def _host(call: Write, old: Document) -> Document:
    new = dict(old)
    if "hostname" in call.given:
        new["hostname"] = call.given["hostname"]
    if "public_key" in call.given:
        given = {name: value for name, value in call.given["public_key"].items() if value is not None}
        new["public_key"] = {**old.get("public_key", {}), **given, "type": "pipeline_ssh_public_key"}
    return new


def _update_host(call: Write) -> Response:
    owner = set_up(call)
    old = owner.find("known_hosts", "uuid", call.names["host"], "Known host")
    return json_response(owner.shown(call, owner.replace("known_hosts", old, _host(call, old))))


def _delete_host(call: Write) -> Response:
    owner = set_up(call)
    owner.remove("known_hosts", owner.find("known_hosts", "uuid", call.names["host"], "Known host"))
    return nothing()


# -- schedules


def _create_schedule(call: Write) -> Response:
    owner, given = set_up(call), call.given
    if len(owner.list("schedules")) >= call.world.sizes["schedules"]:
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
    return created(owner.shown(call, owner.add("schedules", made)))


def _update_schedule(call: Write) -> Response:
    owner = set_up(call)
    old = owner.find("schedules", "uuid", call.names["schedule"], "Schedule")
    enabled = call.given.get("enabled", old["enabled"])
    new = {**old, "enabled": enabled, "updated_on": pipeline_time(call.world.now())}
    return json_response(owner.shown(call, owner.replace("schedules", old, new)))


def _delete_schedule(call: Write) -> Response:
    owner = set_up(call)
    owner.remove("schedules", owner.find("schedules", "uuid", call.names["schedule"], "Schedule"))
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
    owner, given = set_up(call), call.given
    if not given.get("name"):
        raise BadRequest("name: required key not provided")
    if any(one["name"].lower() == given["name"].lower() for one in owner.list("environments")):
        raise Refused(409, f"An environment with the name {given['name']} already exists.")
    stage = given.get("environment_type", {}).get("name", "Test")
    rank = given.get("rank", len(owner.list("environments")))
    made = _environment(given["name"], stage, rank)
    return created(owner.shown(call, owner.add("environments", made)))


def _change_environment(call: Write) -> Response:
    owner = set_up(call)
    old = owner.find("environments", "uuid", call.names["environment"], "Environment")
    owner.replace("environments", old, {**old, **call.given["change"]})
    return json_response({}, 202)


def _delete_environment(call: Write) -> Response:
    owner = set_up(call)
    need_braces(call.names["environment"])
    found = owner.find("environments", "uuid", call.names["environment"], "Environment")
    owner.remove("environments", found)
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


def _variables(address: str, variables_of: Variables) -> tuple[WriteRoute, ...]:
    """The routes of variables at an address."""
    one = address + "/{variable}"
    return (
        WriteRoute("POST", address, *_VARIABLES, _create_variable(variables_of), NEW_VARIABLE),
        WriteRoute("PUT", one, *_VARIABLES, _update_variable(variables_of), VARIABLE),
        WriteRoute("DELETE", one, *_VARIABLES, _delete_variable(variables_of)),
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
    WriteRoute("PUT", _SCHEDULE + "/{schedule}", *_SCHEDULES, _update_schedule, SCHEDULE_CHANGE),
    WriteRoute("DELETE", _SCHEDULE + "/{schedule}", *_NO_SCHEDULE, _delete_schedule),
    WriteRoute("POST", _ENVIRONMENT, *_ENVIRONMENTS, _create_environment, ENVIRONMENT),
    WriteRoute("DELETE", _ENVIRONMENT + "/{environment}", *_ENVIRONMENTS, _delete_environment),
    WriteRoute("POST", _ENVIRONMENT + "/{environment}/changes", *_ENVIRONMENTS, _change_environment, CHANGES),
)
