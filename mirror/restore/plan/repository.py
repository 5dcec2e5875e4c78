"""The steps of projects, repositories and their refs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from mirror.bitbucket import endpoints as api
from mirror.extract import WORKSPACE
from mirror.model import Json, JsonObject, Repository, name_to_json
from mirror.restore.plan.source import Options, Source, Target, was_gone
from mirror.restore.plan.steps import Call, Find, Loss, Push, SendObjects, Stage, Step, Why
from mirror.store.reading.folders import RepositoryFolder

PROJECT = "projects"
REPOSITORY = "repository profile"
REFS = "refs"
_HEADS, _TAGS = b"refs/heads/", b"refs/tags/"
# Bitbucket makes these itself, for its own pull requests.
_PULL_REQUESTS = b"refs/pull-requests/"
_OF_PROJECT = ("name", "description", "is_private")
_OF_REPOSITORY = ("name", "description", "is_private", "fork_policy", "language")


def project_key(key: str) -> str:
    """The key of the step of a project."""
    return f"{WORKSPACE}/project/{key}"


def steps_of_projects(
    workspace: Source | None, repositories: Sequence[Source], target: Target
) -> Iterator[Step | Loss]:
    """The projects: every one of the workspace's snapshot, or those that the repositories are in."""
    known = dict(_projects_of_workspace(workspace)) if workspace is not None else {}
    for source in repositories:
        found = source.repository
        project = None if found is None else found.profile.get("project")
        if isinstance(project, dict) and isinstance(project.get("key"), str):
            known.setdefault(project["key"], project)
    for key, project in sorted(known.items()):
        body = {name: project[name] for name in _OF_PROJECT if project.get(name) is not None}
        body.setdefault("name", key)
        yield Step(
            project_key(key), PROJECT, f"the project {key}",
            Call("POST", api.PROJECTS, {"workspace": target.workspace}, {"key": key, **body}),
            Stage.PROJECT,
            find=Find(api.PROJECTS, {"workspace": target.workspace}, {"key": key}),
            change=Call("PUT", api.PROJECT, {"workspace": target.workspace, "project": key}, body),
            wanted=body,
        )  # fmt: skip


def _projects_of_workspace(workspace: Source) -> Iterator[tuple[str, JsonObject]]:
    for path in workspace.paths("projects"):
        document = workspace.object(path)
        project = document.get("project")
        if was_gone(document, "project"):
            continue
        if isinstance(project, dict) and isinstance(project.get("key"), str):
            yield project["key"], project


def steps_of_repository(source: Source, target: Target, options: Options) -> Iterator[Step | Loss]:
    """The repository itself, its LFS objects, its refs and its main branch."""
    repository = source.repository
    assert repository is not None
    yield _repository(source, repository, target)
    yield from is_fork(source, repository, Why.NEVER)
    yield from steps_of_refs(source, options)
    yield from _main_branch(source, repository, target, usual_refs(source, options))


def is_fork(source: Source, repository: Repository, why: Why) -> Iterator[Loss]:
    """The loss that a fork becomes a repository of its own."""
    if isinstance(parent := repository.profile.get("parent"), dict):
        text = f"it was a fork of {parent.get('full_name')}, and becomes a repository of its own"
        yield Loss(source.key("parent"), REPOSITORY, "that it is a fork", why, text)


def steps_of_refs(source: Source, options: Options) -> Iterator[Step | Loss]:
    """The LFS objects and the refs that were asked for, and those that are left out."""
    refs, usual = pushable(source), usual_refs(source, options)
    chosen = {name: value for name, value in refs.items() if takes_ref(options, name)}
    yield from _left_out(source, refs, chosen)
    yield from _lfs_objects(source, chosen.values())
    if usual:
        yield _push(source, "branches", "branches and tags", usual, Stage.BRANCHES)
    if others := {name: value for name, value in chosen.items() if name not in usual}:
        yield _push(source, "other-refs", "other refs", others, Stage.OTHER_REFS)


def usual_refs(source: Source, options: Options) -> dict[bytes, str]:
    """The branches and tags that were asked for."""
    return {
        name: value
        for name, value in source.refs.items()
        if name.startswith((_HEADS, _TAGS)) and takes_ref(options, name)
    }


def pushable(source: Source) -> dict[bytes, str]:
    """The refs that can be pushed: all but those that Bitbucket makes itself."""
    return {name: value for name, value in source.refs.items() if not name.startswith(_PULL_REQUESTS)}


def takes_ref(options: Options, name: bytes) -> bool:
    """Whether a ref was asked for: one of the globs matches its full name, where `*` includes slashes."""
    text = os.fsdecode(name)
    return not options.refs or any(fnmatchcase(text, glob) for glob in options.refs)


def _repository(source: Source, repository: Repository, target: Target) -> Step:
    profile = repository.profile
    wanted: dict[str, Json] = {
        name: profile[name] for name in _OF_REPOSITORY if profile.get(name) not in (None, "")
    }
    if target.repository != repository.slug:
        wanted["name"] = target.repository
    body: dict[str, Json] = {"scm": "git", **wanted}
    after: tuple[str, ...] = ()
    if repository.project is not None:
        body["project"] = {"key": repository.project}
        wanted["project.key"] = repository.project
        after = (project_key(repository.project),)
    # A PUT with a name renames the repository to the slug of that name.
    keeps_slug = slug_of(str(body.get("name", ""))) == target.repository
    changes = {
        name: value for name, value in body.items() if name != "scm" and (name != "name" or keeps_slug)
    }
    # By its name: where a repository was renamed, its old address leads to another one.
    by_name: dict[str, Json] = {"slug": target.repository}
    at_once = Find(api.REPOSITORIES, {"workspace": target.workspace}, by_name)
    return Step(
        source.key("repository"), REPOSITORY, f"the repository {target.repository}",
        Call("POST", api.REPOSITORY, target.parts, body),
        Stage.REPOSITORY,
        after=after,
        find=Find(api.REPOSITORY, target.parts, by_name) if target.is_only else at_once,
        change=Call("PUT", api.REPOSITORY, target.parts, changes),
        wanted=wanted if keeps_slug else {one: value for one, value in wanted.items() if one != "name"},
    )  # fmt: skip


def slug_of(name: str) -> str:
    """The slug that Bitbucket makes of a repository's name."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-")


def _push(source: Source, word: str, label: str, refs: Mapping[bytes, str], stage: Stage) -> Step:
    """The step that pushes refs of the code; its key ends with `word`."""
    after = (source.key("repository"), source.key("lfs-objects"))
    return Step(
        source.key(word), REFS, f"{len(refs)} {label} of {source.title}", Push("code", refs), stage, after
    )


def has_lfs(source: Source) -> bool:
    """Whether the code may need LFS objects."""
    return isinstance(source.folder, RepositoryFolder) and source.folder.metadata.lfs(source.snapshot) != {}


def _lfs_objects(source: Source, tips: Iterable[str]) -> Iterator[Step | Loss]:
    """The LFS objects, and those that the store never had."""
    assert isinstance(source.folder, RepositoryFolder)
    hashes = tuple(sorted(set(tips)))
    if not has_lfs(source) or not hashes:
        return
    listed = source.folder.metadata.lfs(source.snapshot)
    absent = [oid for oid, (_, is_held) in (listed or {}).items() if not is_held]
    if absent:
        label = f"{len(absent)} LFS objects"
        yield Loss(source.key("lfs-absent"), REFS, label, Why.LACKING, "no backup could fetch them")
    key = source.key("lfs-objects")
    after = (source.key("repository"),)
    yield Step(key, REFS, f"LFS objects of {source.title}", SendObjects(hashes), Stage.LFS_OBJECTS, after)


def _left_out(source: Source, refs: Mapping[bytes, str], chosen: Mapping[bytes, str]) -> Iterator[Loss]:
    """What is said of the refs that are not among the `chosen` ones."""
    left = sorted(name_to_json(name) for name in refs.keys() - chosen.keys())
    if left:
        yield Loss(source.key("refs-left-out"), REFS, f"{len(left)} refs", Why.CHOSEN, f"such as {left[0]}")


def _main_branch(
    source: Source, repository: Repository, target: Target, refs: Mapping[bytes, str]
) -> Iterator[Step | Loss]:
    name = main_branch(source, repository)
    if name is None or not refs:
        return
    if not has_branch(refs, name):
        yield no_main_branch(source, name)
        return
    yield Step(
        source.key("main-branch"), REFS, f"the main branch {name} of {source.title}",
        Call("PUT", api.REPOSITORY, target.parts, {"mainbranch": {"name": name}}),
        Stage.MAIN_BRANCH,
        after=(source.key("repository"), source.key("branches")),
        find=Find(api.REPOSITORY, target.parts),
        wanted={"mainbranch.name": name},
    )  # fmt: skip


def main_branch(source: Source, repository: Repository) -> str | None:
    """The name of the main branch; where the profile does not have it, the branch that HEAD names."""
    main = repository.profile.get("mainbranch")
    name = main.get("name") if isinstance(main, dict) else None
    if isinstance(name, str):
        return name
    head = source.head
    return (
        name_to_json(head.value.removeprefix(_HEADS)) if head is not None and head.kind == "symref" else None
    )


def has_branch(refs: Mapping[bytes, str], name: str) -> bool:
    """Whether a branch is among the refs."""
    return _HEADS + name.encode("utf-8", "surrogateescape") in refs


def no_main_branch(source: Source, name: str) -> Loss:
    """What is said where the main branch is not among the refs."""
    text = f"{name} is not among the branches"
    return Loss(source.key("main-branch"), REFS, "the main branch", Why.LACKING, text)
