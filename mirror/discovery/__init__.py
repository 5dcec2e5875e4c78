"""Which repositories a credential can see, and which of them the rules choose.

The list of a narrow credential is not whole: a repository that it lacks need not be deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from mirror.bitbucket import endpoints, fields
from mirror.bitbucket.client.client import Client
from mirror.bitbucket.failures import ApiError, BadAnswer, Denied, Gone, NotFound, ServerTrouble
from mirror.bitbucket.lists import entries_lost, pages
from mirror.errors import CredentialRefused, MirrorError, UsageError
from mirror.logs import get_logger
from mirror.model import Problem, Repository, Workspace

# Credentials that see a part of a workspace only.
NARROW = frozenset({"project_access_token", "repository_access_token"})
# A credential that may be one of these.
_UNKNOWN = "access_token"
_PROJECT = "project:"

_log = get_logger("discovery")


@dataclass(frozen=True)
class Rules:
    """Which repositories are wanted. A rule is a slug, a glob of slugs, or `project:KEY`."""

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()

    def chooses(self, slug: str, project: str | None) -> bool:
        """Whether a repository is included and not excluded."""
        return any(matches(rule, slug, project) for rule in self.include) and not any(
            matches(rule, slug, project) for rule in self.exclude
        )


def matches(rule: str, slug: str, project: str | None) -> bool:
    """Whether one rule means this repository. Case is ignored, as Bitbucket does."""
    if rule.lower().startswith(_PROJECT):
        return project is not None and fnmatchcase(project.lower(), rule[len(_PROJECT) :].lower())
    return fnmatchcase(slug.lower(), rule.lower())


@dataclass(frozen=True)
class Discovered:
    """What was found of one workspace.

    `repositories` are those that the rules choose. `is_whole`: the list had every repository of the
    workspace, so that one it lacks is missing; `listed` are the uuids of that list. `problems` are those of
    listing. `is_broken`: the list broke off, or lost entries, so that a repository it lacks may exist.
    `is_hidden`: the workspace itself could not be read, and is as its repositories describe it.
    """

    workspace: Workspace
    repositories: tuple[Repository, ...]
    is_whole: bool
    listed: frozenset[str]
    problems: tuple[Problem, ...] = field(default=())
    is_broken: bool = False
    is_hidden: bool = False


async def workspaces_of(client: Client, name: str | None, *, held: str | None = None) -> list[Workspace]:
    """The workspace called `name`, or each that the credential can see.

    `held` is the uuid of the workspace that the store has under this name. Where no workspace has the name
    any more, it was renamed, and is asked for by its uuid. Raises UsageError where there is none: an empty
    run must never look like a good one.
    """
    if name is not None:
        return [await _workspace(client, name, held)]
    try:
        found = [
            fields.workspace(value)
            async for page in pages(client, endpoints.USER_WORKSPACES)
            for value in page.values
        ]
    except (Denied, NotFound, Gone) as error:
        raise UsageError(
            f"the credential cannot list its workspaces: {error.message}",
            hint="name the workspace in the configuration (access tokens cannot list any)",
        ) from error
    if not found:
        raise UsageError(
            "the credential can see no workspace", hint="name the workspace in the configuration"
        )
    return sorted({one.uuid: one for one in found}.values(), key=lambda one: one.slug)


async def _workspace(client: Client, name: str, held: str | None) -> Workspace:
    try:
        answer = await client.get(endpoints.WORKSPACE, workspace=name)
        return fields.workspace(answer.data)
    except ApiError as error:
        if isinstance(error, NotFound | Gone) and held is not None and held.lower() != name.lower():
            renamed = await _workspace(client, held, None)
            if renamed.uuid:
                return renamed
        # A narrow token may read repositories but not their workspace; then their JSON describes it. So it
        # does where the server fails on this one address.
        _log.info("discovery.workspace_hidden", workspace=name, reason=error.message)
        return Workspace("", name)


async def discover(
    client: Client,
    workspace: Workspace,
    rules: Rules,
    *,
    known: Iterable[tuple[str, str | None]] = (),
    held: str | None = None,
) -> Discovered:
    """List a workspace and choose by the rules.

    `known` are slug and project of what the store has of it: a rule that matches only what is missing now
    is not a mistake. `held` is the uuid that the store has for a workspace that could not be read itself: it
    is listed by that uuid where its name lists nothing, after a rename. Raises UsageError where nothing at
    all is chosen or known, and what listing raises.
    """
    kind = client.sign_ins[0].kind if client.sign_ins else ""
    problems: list[Problem] = []
    try:
        found, whole = await _found(client, workspace.slug, rules, problems)
    except UsageError as first:
        if workspace.uuid or held is None:
            raise
        problems = []
        try:
            found, whole = await _found(client, held, rules, problems)
        except UsageError:
            raise first from None  # it names the workspace by its slug
    # The kind of a token may be known only after it was used.
    seen = {client.kind_of(one) for one in client.sign_ins}
    is_broken = bool(problems)
    if is_broken or seen & (NARROW | {_UNKNOWN}):
        whole = False
    chosen = [one for one in found if rules.chooses(one.slug, one.project)]
    known = list(known)
    problems += _unmatched_rules(rules, [(one.slug, one.project) for one in found] + known)
    if not chosen and not known:
        raise UsageError(
            f"no repository of {workspace.slug} is chosen ({len(found)} can be seen)",
            hint=f"check include and exclude, and what the {kind or 'credential'} may see",
        )
    identified = _identified(workspace, found)
    listed = frozenset(one.uuid for one in found)
    return Discovered(
        identified, tuple(chosen), whole, listed, tuple(problems), is_broken, is_hidden=not workspace.uuid
    )


async def _found(
    client: Client, address: str, rules: Rules, problems: list[Problem]
) -> tuple[list[Repository], bool]:
    """The repositories of the workspace with this slug or uuid, and whether the list is whole."""
    if any(one.kind in NARROW for one in client.sign_ins):
        return await _list_parts(client, address, rules, problems), False
    try:
        return await _list(client, address, None, problems), True
    except (Denied, NotFound) as error:
        return await _list_narrowly(client, address, rules, problems, error), False


def _unmatched_rules(rules: Rules, everything: Sequence[tuple[str, str | None]]) -> list[Problem]:
    return [
        Problem(2, f"the {name} rule {rule!r} matches no repository; correct or remove it")
        for name, several in (("include", rules.include), ("exclude", rules.exclude))
        for rule in several
        if rule != "*" and not any(matches(rule, slug, project) for slug, project in everything)
    ]


def _identified(workspace: Workspace, found: Sequence[Repository]) -> Workspace:
    """The workspace; one that could not be read itself is as its repositories describe it."""
    if workspace.uuid:
        return workspace
    for one in found:
        try:
            return fields.workspace({"workspace": one.profile.get("workspace")})
        except BadAnswer:
            continue
    raise UsageError(
        f"the credential can see neither the workspace {workspace.slug} nor a repository that names it",
        hint="check the workspace's name and what the credential may see",
    )


async def _list(
    client: Client, workspace: str, query: endpoints.Query | None, problems: list[Problem]
) -> list[Repository]:
    """The repositories of one list. Where it breaks off or falls short, a problem is added, and the entries
    received count."""
    found: dict[str, Repository] = {}
    try:
        async for page in pages(client, endpoints.REPOSITORIES, query, workspace=workspace):
            if page.lost:
                problems.append(
                    Problem(3, entries_lost(endpoints.REPOSITORIES, page.lost).message, "repositories")
                )
            for value in page.values:
                try:
                    one = fields.repository(value, workspace=workspace)
                except BadAnswer as error:
                    problems.append(Problem(3, error.message, "repositories"))
                    continue
                found[one.uuid] = one
    except (ApiError, ServerTrouble) as error:
        if not found:
            raise
        code = error.exit_code if isinstance(error, ServerTrouble) else 3
        problems.append(Problem(code, error.message, "repositories"))
    return sorted(found.values(), key=lambda one: one.full_name)


async def _list_parts(
    client: Client, workspace: str, rules: Rules, problems: list[Problem]
) -> list[Repository]:
    """What several narrow credentials see, together."""
    found: dict[str, Repository] = {}
    refusal: MirrorError | None = None
    for one in client.sign_ins:
        view = client.only(one)
        try:
            try:
                several = await _list(view, workspace, None, problems)
            except (Denied, NotFound) as error:
                several = await _list_narrowly(view, workspace, rules, problems, error)
        except (UsageError, CredentialRefused) as error:
            # What one cannot list, another may; the run reports which one was refused.
            refusal = refusal or error
            continue
        found.update({repository.uuid: repository for repository in several})
    if not found and refusal is not None:
        raise refusal
    return sorted(found.values(), key=lambda one: one.full_name)


async def _list_narrowly(
    client: Client, workspace: str, rules: Rules, problems: list[Problem], refusal: ApiError
) -> list[Repository]:
    """Without the list of the workspace: by project, and one by one where a rule names a repository."""
    found: dict[str, Repository] = {}
    for rule in rules.include:
        if any(sign in rule for sign in "*?["):
            continue
        try:
            if rule.lower().startswith(_PROJECT):
                query = endpoints.in_project(rule[len(_PROJECT) :])
                several = await _list(client, workspace, query, problems)
            else:
                answer = await client.get(endpoints.REPOSITORY, workspace=workspace, repository=rule)
                several = [fields.repository(answer.data, workspace=workspace)]
        except (Denied, NotFound, BadAnswer) as error:
            problems.append(Problem(3, f"{workspace}/{rule}: {error.message}", "repositories"))
            continue
        found.update({one.uuid: one for one in several})
    if not found:
        raise UsageError(
            f"the repositories of {workspace} cannot be listed: {refusal.message}",
            hint="with a project or repository token, include project:KEY or the repository's name",
        )
    return sorted(found.values(), key=lambda one: one.full_name)
