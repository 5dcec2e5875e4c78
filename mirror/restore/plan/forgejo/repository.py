"""The repository itself, its LFS objects, its refs, its default branch and its wiki."""

from __future__ import annotations

from collections.abc import Iterator

from mirror.bitbucket.readable.parts import get, string
from mirror.forgejo import endpoints, fields
from mirror.git.refs import OURS
from mirror.model import name_to_json
from mirror.restore.plan.forgejo.target import ForgejoTarget
from mirror.restore.plan.repository import (
    REFS,
    REPOSITORY,
    has_branch,
    is_fork,
    main_branch,
    no_main_branch,
    steps_of_refs,
    usual_refs,
)
from mirror.restore.plan.source import Options, Source
from mirror.restore.plan.steps import Call, Find, Loss, Push, Stage, Step, Why

WIKI = "wiki"


def steps_of_repository(source: Source, target: ForgejoTarget, options: Options) -> Iterator[Step | Loss]:
    """What makes the repository with its refs."""
    repository = source.repository
    assert repository is not None
    usual = usual_refs(source, options)
    main = main_branch(source, repository)
    yield from _repository(source, target, main if main is not None and has_branch(usual, main) else None)
    yield from steps_of_refs(source, options)
    if main is not None and usual:
        yield _main_branch(source, target, main) if has_branch(usual, main) else no_main_branch(source, main)
    yield from _wiki(source, target)


def _repository(source: Source, target: ForgejoTarget, main: str | None) -> Iterator[Step | Loss]:
    assert source.repository is not None
    profile = source.repository.profile
    description = string(profile, "description")
    if len(description) > fields.DESCRIPTION_MAX:
        label = f"the end of the description of {source.title}"
        text = f"{len(description) - fields.DESCRIPTION_MAX} characters"
        yield Loss(source.key("description"), REPOSITORY, label, Why.UNKNOWN_THERE, text)
    yield from is_fork(source, source.repository, Why.UNKNOWN_THERE)
    endpoint, parts = target.new_repository
    # Whoever does not say that it was public gets it private.
    private = get(profile, "is_private") is not False
    body = fields.repository(target.name, private=private, description=description, default_branch=main)
    compared = {name: body[name] for name in fields.COMPARED}
    yield Step(
        source.key("repository"), REPOSITORY, f"the repository {target.owner}/{target.name}",
        Call("POST", endpoint, parts, body), Stage.REPOSITORY,
        find=Find(endpoints.REPOSITORY, target.parts),
        change=Call("PATCH", endpoints.REPOSITORY, target.parts, compared),
        wanted=compared,
    )  # fmt: skip
    if website := string(profile, "website"):
        yield Step(
            source.key("website"), REPOSITORY, f"the website of {source.title}",
            Call("PATCH", endpoints.REPOSITORY, target.parts, fields.website(website)), Stage.SETTINGS,
            (source.key("repository"),), Find(endpoints.REPOSITORY, target.parts),
            wanted=fields.website(website),
        )  # fmt: skip


def _main_branch(source: Source, target: ForgejoTarget, name: str) -> Step:
    body = fields.default_branch(name)
    return Step(
        source.key("main-branch"), REFS, f"the default branch {name}",
        Call("PATCH", endpoints.REPOSITORY, target.parts, body), Stage.MAIN_BRANCH,
        (source.key("branches"),), Find(endpoints.REPOSITORY, target.parts), wanted=body,
    )  # fmt: skip


def _wiki(source: Source, target: ForgejoTarget) -> Iterator[Step]:
    """The wiki: its git repository, and which branch of it is shown."""
    known = source.mirrors.get(WIKI)
    refs = {} if known is None else known.refs.refs
    wanted = {name: value for name, value in refs.items() if not name.startswith(OURS)}
    if known is None or not wanted:
        return
    key, label = source.key(WIKI), f"the wiki of {source.title}"
    yield Step(key, WIKI, label, Push(WIKI, wanted), Stage.OTHER_REFS, (source.key("repository"),))
    head = known.refs.head
    branch = head.value if head is not None and head.value in wanted else next(iter(sorted(wanted)))
    name = name_to_json(branch.removeprefix(b"refs/heads/"))
    yield Step(
        f"{key}/branch", WIKI, f"the branch {name} of {label}",
        Call("PATCH", endpoints.REPOSITORY, target.parts, fields.wiki_branch(name)), Stage.SETTINGS, (key,),
        Find(endpoints.REPOSITORY, target.parts), wanted={fields.WIKI_BRANCH: name},
    )  # fmt: skip
