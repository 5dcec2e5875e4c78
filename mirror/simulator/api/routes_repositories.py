"""Routes of people, workspaces, projects, repositories, commits and refs."""

from __future__ import annotations

from dulwich.errors import NotCommitError
from dulwich.objects import Commit, ObjectID, Tag
from dulwich.repo import Repo

from mirror.simulator.api.render_repositories import Document
from mirror.simulator.api.routing import Call, Hidden, Listing, Route, RouteResult, always
from mirror.simulator.authentication import ACCESS_TOKENS, can_see
from mirror.simulator.world.git_repository import GitRepository
from mirror.simulator.world.people import Token

R = "/repositories/{workspace}/{repository}"
WORKSPACE = "read:workspace:bitbucket"
COMMITS_MAX = 2000


def _user(call: Call) -> RouteResult:
    if call.token.user is None:
        return call.render.app_user(call.token)
    return call.render.user(call.token.user) or {}


def _one_user(call: Call) -> RouteResult:
    for user in call.world.users.values():
        if user.uuid == call.names["user"] and not user.deleted:
            return call.render.user(user) or {}
    raise Hidden("No such user")


def _user_workspaces(call: Call) -> RouteResult:
    token = call.token
    if token.kind in ACCESS_TOKENS:
        if not call.switches.access_tokens_list_workspaces:
            raise Hidden("not for access tokens", scope="account")
        return Listing([], lambda _: {})
    visible = [
        one
        for one in call.world.workspaces.values()
        if token.workspace in (None, one.slug) and (token.user is None or token.user.belongs_to(one.slug))
    ]
    render = call.render
    return Listing(
        visible,
        lambda one: {
            "type": "workspace_access",
            "administrator": False,
            "workspace": {**render.slim_workspace(one), "type": "workspace_base"},
        },
    )


def _members(call: Call) -> RouteResult:
    workspace = call.workspace()
    members = [user for user in call.world.users.values() if user.belongs_to(workspace.slug)]
    return Listing(members, lambda user: call.render.membership(workspace, user))


def _permissions(call: Call) -> RouteResult:
    workspace = call.workspace()
    members = [user for user in call.world.users.values() if user.belongs_to(workspace.slug)]
    return Listing(members, lambda user: {**call.render.membership(workspace, user), "permission": "member"})


def _projects(call: Call) -> RouteResult:
    workspace = call.workspace()
    return Listing(sorted(workspace.projects), lambda key: call.render.full_project(workspace, key))


def _project(call: Call) -> RouteResult:
    workspace = call.workspace()
    if call.names["project"] not in workspace.projects:
        raise Hidden("Project not found")
    return call.render.full_project(workspace, call.names["project"])


def _login(token: Token) -> str | None:
    """The user name in the clone links."""
    if token.kind == "anonymous":
        return None
    return token.user.name.split()[0].lower() if token.user is not None else "x-token-auth"


def _repositories(call: Call) -> RouteResult:
    found = call.world.workspace(call.names["workspace"])
    # Anonymous callers see public repositories.
    workspace = found if found is not None and call.token.workspace is None else call.workspace()
    narrow = call.token.kind == "repository_access_token" and not call.switches.narrow_tokens_list
    if narrow and "project.key" not in dict(call.pairs).get("q", ""):
        raise Hidden("narrow", scope="repository")
    shown = [
        one
        for one in sorted(workspace.repositories.values(), key=lambda one: one.created)
        if can_see(call.token, one) or call.switches.lists_show_unreadable
    ]
    login = _login(call.token)
    return Listing(shown, lambda one: call.render.repository(one, login))


def _repository(call: Call) -> RouteResult:
    return call.render.repository(call.repository(), _login(call.token))


def _commit(call: Call) -> RouteResult:
    """One commit, by its hash or a unique prefix."""
    repository = call.repository()
    wanted = call.names["commit"].encode()
    with Repo(str(repository.git_path)) as repo:
        for value in repo.object_store.iter_prefix(wanted) if 4 <= len(wanted) <= 40 else ():
            found = repo.object_store[ObjectID(value)]
            if isinstance(found, Commit):
                return call.render.whole_commit(repository, found)
    raise Hidden("Commit not found")


def _all_commits(call: Call) -> RouteResult:
    repository = call.repository()
    heads = [value for name, value in repository.refs().items() if name.startswith(b"refs/heads/")]
    return _walked(call, repository, heads, [])


def _walked(call: Call, repository: GitRepository, include: list[str], exclude: list[str]) -> Listing:
    with Repo(str(repository.git_path)) as repo:
        known = [ObjectID(one.encode()) for one in exclude if ObjectID(one.encode()) in repo.object_store]
        walker = repo.get_walker(
            include=[ObjectID(one.encode()) for one in include], exclude=known, max_entries=COMMITS_MAX
        )
        commits = [entry.commit for entry in walker] if include else []
    return Listing(commits, lambda one: call.render.commit(repository, one))


def commits_between(call: Call, repository: GitRepository, head: str, base: str) -> Listing:
    """The commits that `head` reaches and `base` does not, newest first."""
    try:
        return _walked(call, repository, [head], [base])
    except (KeyError, NotCommitError):
        raise Hidden("Commit not found") from None


def _branches(call: Call) -> RouteResult:
    return _refs(call, "branch", b"refs/heads/")


def _tags(call: Call) -> RouteResult:
    return _refs(call, "tag", b"refs/tags/")


def _refs(call: Call, kind: str, prefix: bytes) -> Listing:
    repository = call.repository()
    named = [(name, value) for name, value in sorted(repository.refs().items()) if name.startswith(prefix)]

    def render(item: tuple[bytes, str]) -> Document:
        name, value = item
        with Repo(str(repository.git_path)) as repo:
            found = repo.object_store[ObjectID(value.encode())]
            while isinstance(found, Tag):
                found = repo.object_store[found.object[1]]
        target = (
            call.render.commit(repository, found)
            if isinstance(found, Commit)
            else call.render.slim_commit(repository, value)
        )
        return call.render.ref(repository, kind, name.removeprefix(prefix).decode("utf-8", "replace"), target)

    return Listing(named, render)


def _branch(call: Call) -> RouteResult:
    listing = _refs(call, "branch", b"refs/heads/")
    for item in listing.items:
        if item[0] == b"refs/heads/" + call.names["branch"].encode():
            return listing.render(item)
    raise Hidden("No branch with this name")


PLACES: tuple[Route, ...] = (
    Route("/user", "account", _user),
    Route("/user/workspaces", "account", _user_workspaces, filters=True, long=WORKSPACE),
    Route("/users/{user}", None, _one_user, long="read:user:bitbucket"),
    Route("/workspaces/{workspace}", None, lambda c: c.render.workspace(c.workspace()), long=WORKSPACE),
    Route("/workspaces/{workspace}/members", "account", _members, long=WORKSPACE),
    Route("/workspaces/{workspace}/permissions", "account", _permissions, filters=True, long=WORKSPACE),
    Route("/workspaces/{workspace}/projects", "project", _projects, filters=True, sorts=always),
    Route("/workspaces/{workspace}/projects/{project}", "project", _project),
    Route("/repositories/{workspace}", "repository", _repositories, filters=True, sorts=always, public=True),
    Route(R, "repository", _repository, public=True),
    Route(R + "/commit/{commit}", "repository", _commit, public=True),
    Route(R + "/commits", "repository", _all_commits, public=True),
    Route(R + "/refs/branches", "repository", _branches, filters=True, sorts=always, public=True),
    Route(R + "/refs/branches/{branch}", "repository", _branch, public=True),
    Route(R + "/refs/tags", "repository", _tags, filters=True, sorts=always, public=True),
)
