"""Webhooks, deploy keys, downloads, and what protects branches."""

from __future__ import annotations

from collections.abc import Iterator

from mirror.bitbucket.readable.parts import get, number, objects, string
from mirror.forgejo import endpoints, fields
from mirror.model import JsonObject
from mirror.restore.plan.forgejo.target import ForgejoTarget
from mirror.restore.plan.repository import main_branch
from mirror.restore.plan.source import Options, Source
from mirror.restore.plan.steps import Call, Find, Loss, Made, Retry, Secret, Stage, Step, Upload, Why

HOOKS, KEYS, DOWNLOADS, FILES = "webhooks", "deploy keys", "downloads", "downloaded files"
RESTRICTIONS = "branch restrictions"
_TAG = "bitbucket-downloads"
_DOWNLOADS_TEXT = "The downloads of {place} on Bitbucket. The tag was made for this release."
_PUSH, _MERGE = "push", "restrict_merges"


def steps_of_hooks(source: Source, target: ForgejoTarget, options: Options) -> Iterator[Step | Loss]:
    """The webhooks, inactive unless the options say otherwise: what they call gets Forgejo's messages, not
    Bitbucket's."""
    by_url: dict[str, list[JsonObject]] = {}
    for hook in objects(source.document("settings/webhooks.json")):
        by_url.setdefault(string(hook, "url"), []).append(hook)
    for url, hooks in by_url.items():
        key, label = source.key("webhooks", url), f"the webhook {url} of {source.title}"
        wanted = [str(event) for hook in hooks for event in _listed(hook, "events")]
        events, unknown = fields.events_of(list(dict.fromkeys(wanted)))
        if unknown:
            text = ", ".join(unknown)
            yield Loss(f"{key}/events", HOOKS, f"events of {label}", Why.UNKNOWN_THERE, text)
        if not events:
            continue
        has_secret = any(get(hook, "secret_set") is True for hook in hooks)
        if has_secret and key not in options.secrets:
            yield Loss(key, HOOKS, f"the secret of {label}", Why.SECRET)
        secret = Secret(key) if has_secret and key in options.secrets else None
        active = options.activate_hooks and any(get(hook, "active") is True for hook in hooks)
        body = fields.hook(url, events, active=active, secret=secret)
        yield Step(
            key, HOOKS, label,
            Call("POST", endpoints.HOOKS, target.parts, body), Stage.HOOKS, (source.key("repository"),),
            Find(endpoints.HOOKS, target.parts, {fields.HOOK_URL: url}),
        )  # fmt: skip


def _listed(thing: JsonObject, name: str) -> list[object]:
    value = get(thing, name)
    return list(value) if isinstance(value, list) else []


def steps_of_keys(source: Source, target: ForgejoTarget) -> Iterator[Step]:
    """The deploy keys. As on Bitbucket, they only read."""
    taken: set[str] = set()
    for one in objects(source.document("settings/deploy-keys.json")):
        title = string(one, "label") or "Deploy key"
        while title in taken:  # Forgejo takes each only once
            title = f"{title} {string(one, 'id')}"
        taken.add(title)
        key = " ".join(part for part in (string(one, "key"), string(one, "comment")) if part)
        yield Step(
            source.key("deploy-keys", title), KEYS, f"the deploy key {title} of {source.title}",
            Call("POST", endpoints.DEPLOY_KEYS, target.parts, fields.deploy_key(title, key)), Stage.SETTINGS,
            (source.key("repository"),),
            Find(endpoints.DEPLOY_KEYS, target.parts, {fields.TITLE: title}),
        )  # fmt: skip


def steps_of_downloads(source: Source, target: ForgejoTarget) -> Iterator[Step | Loss]:
    """The downloads, as files of one release."""
    downloads = objects(source.document("downloads.json"))
    if not downloads:
        return
    repository = source.repository
    main = main_branch(source, repository) if repository is not None else None
    if main is None or not source.refs:
        label = f"{len(downloads)} downloads of {source.title}"
        yield Loss(source.key("downloads"), DOWNLOADS, label, Why.UNKNOWN_THERE, "a release needs a commit")
        return
    key, place = source.key("downloads"), source.snapshot.full_name
    body = fields.release(_TAG, main, "Downloads", _DOWNLOADS_TEXT.format(place=place))
    yield Step(
        key, DOWNLOADS, f"a release for the downloads of {source.title}",
        Call("POST", endpoints.RELEASES, target.parts, body), Stage.SETTINGS, (source.key("main-branch"),),
        Find(endpoints.RELEASES, target.parts, {fields.TAG: _TAG}),
    )  # fmt: skip
    parts: dict[str, str | int | Made] = {**target.parts, "id": Made(key, fields.ID)}
    for one in downloads:
        name, sha256 = string(one, "name"), string(one, "_content", "sha256")
        its_key, label = source.key("downloads", name), f"the download {name} of {source.title}"
        if not sha256 or source.stored(sha256) is None:
            yield Loss(its_key, FILES, label, Why.LACKING)
            continue
        yield Step(
            its_key, FILES, label,
            Call("POST", endpoints.ASSETS, parts, files=(Upload(fields.ATTACHMENT, name, sha256),)),
            Stage.SETTINGS, (key,), Find(endpoints.ASSETS, parts, {fields.NAME: name}),
        )  # fmt: skip


def steps_of_restrictions(source: Source, target: ForgejoTarget, options: Options) -> Iterator[Step | Loss]:
    """What protects branches: one rule for each pattern, made of all restrictions on it."""
    by_rule: dict[str, list[JsonObject]] = {}
    for one in objects(source.document("settings/branch-restrictions.json")):
        rules = list(_rules(source, one))
        if not rules:
            label = f"the restriction {string(one, 'kind')} of {source.title}"
            key = source.key("restriction", string(one, "id"))
            yield Loss(key, RESTRICTIONS, label, Why.UNKNOWN_THERE, "its kind of branch is not known")
        for rule in rules:
            by_rule.setdefault(rule, []).append(one)
    for rule, restrictions in sorted(by_rule.items()):
        yield from _rule(source, target, options, rule, restrictions)


def _rules(source: Source, restriction: JsonObject) -> Iterator[str]:
    """The patterns of the branches that a restriction is about: its own, or those of the branching model."""
    if string(restriction, "branch_match_kind") != "branching_model":
        yield from [string(restriction, "pattern")] if string(restriction, "pattern") else []
        return
    kind, model = string(restriction, "branch_type"), source.document("settings/branching-model.json")
    if name := string(model, kind, "name") or string(model, kind, "branch", "name"):
        yield name
    for one in objects(get(model, "branch_types")):
        if string(one, "kind") == kind and string(one, "prefix"):
            yield f"{string(one, 'prefix')}**"


def _rule(
    source: Source, target: ForgejoTarget, options: Options, rule: str, restrictions: list[JsonObject]
) -> Iterator[Step | Loss]:
    key, label = source.key("protection", rule), f"the protection of {rule} of {source.title}"
    wanted: dict[str, object] = fields.may_push(None)
    for one in restrictions:
        kind = string(one, "kind")
        if kind in (_PUSH, _MERGE):
            users, left_out = _people(options, one)
            if left_out:
                text = ", ".join(left_out)
                yield Loss(f"{key}/{kind}", RESTRICTIONS, f"who may {kind} under {label}", Why.PERSON, text)
            wanted |= fields.may_push(users) if kind == _PUSH else fields.may_merge(users)
        elif (found := fields.merge_check(kind, number(one, "value"))) is not None:
            wanted |= found
        else:
            yield Loss(f"{key}/{kind}", RESTRICTIONS, f"{kind} of {label}", Why.UNKNOWN_THERE)
    yield Step(
        key, RESTRICTIONS, label,
        Call("POST", endpoints.BRANCH_PROTECTIONS, target.parts, fields.protection(rule, wanted)),
        Stage.RESTRICTIONS, (source.key("repository"),),
        Find(endpoints.BRANCH_PROTECTIONS, target.parts, {fields.RULE: rule}), wanted=wanted,
        retries=tuple(Retry(422, name, "a user is not there: nobody is excepted") for name in fields.USERS),
    )  # fmt: skip


def _people(options: Options, restriction: JsonObject) -> tuple[list[str], list[str]]:
    """The user names of those whom a restriction excepts, and the names of those who have none."""
    users, left_out = [], []
    for one in objects(get(restriction, "users")):
        login = options.people.get(string(one, "uuid"))
        if login is None:
            left_out.append(string(one, "display_name") or string(one, "uuid"))
        else:
            users.append(login)
    groups = [string(one, "name") or string(one, "slug") for one in objects(get(restriction, "groups"))]
    left_out += [f"the group {name}" for name in groups]
    return users, left_out
