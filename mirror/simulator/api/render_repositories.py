"""Bitbucket's JSON for people, workspaces, projects, repositories, commits and refs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dulwich.objects import Commit

from mirror.simulator.switches import Switches
from mirror.simulator.world.git_repository import GitRepository
from mirror.simulator.world.people import Token, User, braced
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.world import SimWorkspace

Document = dict[str, Any]


def core_time(when: datetime) -> str:
    """A time in the format of the core API."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")


def pipeline_time(when: datetime) -> str:
    """A time in the format of pipelines: `Z`, and no trailing zeros."""
    text = when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return text + "Z"


def markup(text: str) -> Document:
    """A text with its HTML."""
    return {"type": "rendered", "raw": text, "markup": "markdown", "html": f"<p>{text}</p>"}


def link(href: str) -> Document:
    """A link."""
    return {"href": href}


class RepositoryRenderer:
    """Renders for one API URL. Every call returns new objects."""

    def __init__(self, api: str, git: str, switches: Switches) -> None:
        self.api = api
        self.git = git
        self.switches = switches

    def user(self, user: User | None) -> Document | None:
        """An account; a deleted one is null or nameless."""
        if user is None or (user.deleted and self.switches.deleted_accounts_are_null):
            return None
        if user.deleted:
            return {"type": "user", "display_name": "Former user", "links": {}}
        account = user.uuid[1:9]
        return {
            "type": user.kind,
            "display_name": user.name,
            "uuid": user.uuid,
            "account_id": user.account_id,
            "nickname": user.name.split()[0].lower(),
            "links": {
                "self": link(f"{self.api}/users/{user.uuid}"),
                "avatar": link(f"https://avatars.example.org/{user.uuid.strip('{}')}?s=64&sig={account}"),
                "html": link(f"https://bitbucket.org/{user.uuid}/"),
            },
        }

    def app_user(self, token: Token) -> Document:
        """The account that an access token or an OAuth consumer acts as."""
        account = token.account
        return {
            "type": "app_user",
            "kind": token.kind,
            "display_name": account.name,
            "uuid": account.uuid,
            "account_id": account.account_id,
            "account_status": "active",
            "created_on": "2026-01-01T00:00:00.000000+00:00",
            "links": {"self": link(f"{self.api}/users/{account.uuid}")},
        }

    def workspace(self, workspace: SimWorkspace) -> Document:
        """A workspace."""
        own = f"{self.api}/workspaces/{workspace.slug}"
        return {
            "type": "workspace",
            "uuid": workspace.uuid,
            "slug": workspace.slug,
            "name": workspace.name,
            "is_private": True,
            "is_privacy_enforced": False,
            "forking_mode": "allow_forks",
            "created_on": "2020-01-01T00:00:00.000000+00:00",
            "links": {
                "self": link(own),
                "html": link(f"https://bitbucket.org/{workspace.slug}/"),
                "members": link(f"{own}/members"),
                "projects": link(f"{own}/projects"),
                "repositories": link(f"{self.api}/repositories/{workspace.slug}"),
            },
        }

    def slim_workspace(self, workspace: SimWorkspace) -> Document:
        """A workspace as part of another document."""
        full = self.workspace(workspace)
        links = {name: full["links"][name] for name in ("self", "html")}
        return {**{name: full[name] for name in ("type", "uuid", "slug", "name")}, "links": links}

    def membership(self, workspace: SimWorkspace, user: User) -> Document:
        """The membership of a user in a workspace."""
        return {
            "type": "workspace_membership",
            "user": self.user(user),
            "workspace": self.slim_workspace(workspace),
            "links": {"self": link(f"{self.api}/workspaces/{workspace.slug}/members/{user.uuid}")},
        }

    def project(self, workspace: SimWorkspace, key: str) -> Document:
        """A project as part of another document."""
        return {
            "type": "project",
            "uuid": braced("project", workspace.slug, key),
            "key": key,
            "name": workspace.projects[key],
            "links": {"html": link(f"https://bitbucket.org/{workspace.slug}/workspace/projects/{key}")},
        }

    def full_project(self, workspace: SimWorkspace, key: str) -> Document:
        """A project as its own document."""
        return {
            **self.project(workspace, key),
            "owner": self._team(workspace),
            "description": "",
            "is_private": True,
            "has_publicly_visible_repos": False,
            "created_on": "2020-01-01T00:00:00.000000+00:00",
            "updated_on": "2020-01-01T00:00:00.000000+00:00",
            **workspace.project_details.get(key, {}),
        }

    def repository(self, repository: SimRepository, login: str | None = None) -> Document:
        """A repository; `login` is part of the clone link, as for authenticated callers."""
        name = repository.full_name
        main = repository.main_branch()
        scheme, _, rest = self.git.partition("://")
        user = f"{login}@" if login else ""
        own = f"{self.api}/repositories/{name}"
        trackers = {"has_issues": self.switches.issue_tracker, "has_wiki": False}
        return {
            "type": "repository",
            "uuid": repository.uuid,
            "full_name": name,
            "name": repository.slug,
            "slug": repository.slug,
            "description": repository.description,
            "scm": "git",
            "website": None,
            "is_private": repository.private,
            "fork_policy": "no_public_forks",
            "language": "",
            "size": 0,
            "created_on": core_time(repository.created),
            "updated_on": core_time(repository.updated),
            "parent": self.slim_repository(repository.parent) if repository.parent is not None else None,
            "mainbranch": {"type": "branch", "name": main} if main else None,
            "override_settings": {"default_merge_strategy": False, "branching_model": False},
            "enforced_signed_commits": None,
            "owner": self._team(repository.workspace),
            "workspace": self.slim_workspace(repository.workspace),
            "project": self.project(repository.workspace, repository.project),
            **(trackers if self.switches.repositories_show_trackers else {}),
            **repository.details,
            "links": {
                "self": link(own),
                "html": link(f"https://bitbucket.org/{name}"),
                "pullrequests": link(f"{own}/pullrequests"),
                "commits": link(f"{own}/commits"),
                "clone": [
                    {"name": "https", "href": f"{scheme}://{user}{rest}/{name}.git"},
                    {"name": "ssh", "href": f"git@bitbucket.org:{name}.git"},
                ],
            },
        }

    def _team(self, workspace: SimWorkspace) -> Document:
        return {
            "type": "team",
            "display_name": workspace.name,
            "uuid": workspace.uuid,
            "username": workspace.slug,
            "links": {"self": link(f"{self.api}/workspaces/{workspace.slug}")},
        }

    def slim_repository(self, repository: GitRepository) -> Document:
        """A repository as part of another document."""
        return {
            "type": "repository",
            "uuid": repository.uuid,
            "full_name": repository.full_name,
            "name": repository.details.get("name", repository.slug),
            "links": {
                "self": link(f"{self.api}/repositories/{repository.full_name}"),
                "html": link(f"https://bitbucket.org/{repository.full_name}"),
            },
        }

    def commit(self, repository: GitRepository, commit: Commit) -> Document:
        """A commit. Its author has no `user` unless the address belongs to an account."""
        value = commit.id.decode("ascii")
        raw = commit.author.decode("utf-8", "replace")
        author: Document = {"type": "author", "raw": raw}
        known = repository.world.users.get(raw.partition("<")[2].rstrip(">"))
        if known is not None:
            author["user"] = self.user(known)
        message = commit.message.decode("utf-8", "replace")
        return {
            "type": "commit",
            "hash": value,
            "date": core_time(datetime.fromtimestamp(commit.commit_time, UTC)),
            "author": author,
            "message": message,
            "summary": markup(message),
            "repository": self.slim_repository(repository),
            "parents": [self.slim_commit(repository, one.decode("ascii")) for one in commit.parents],
            "links": {"self": link(f"{self.api}/repositories/{repository.full_name}/commit/{value}")},
        }

    def whole_commit(self, repository: GitRepository, commit: Commit) -> Document:
        """A commit as its own document, with its approvals."""
        approvals = repository.commit_approvals.get(commit.id.decode("ascii"), [])
        several = [
            {"type": "participant", "user": self.user(one), "role": "PARTICIPANT", "approved": True,
             "state": "approved", "participated_on": core_time(repository.updated)}
            for one in approvals
        ]  # fmt: skip
        return {**self.commit(repository, commit), "participants": several}

    def slim_commit(self, repository: GitRepository, value: str) -> Document:
        """A commit as part of another document."""
        return {
            "type": "commit",
            "hash": value,
            "links": {"self": link(f"{self.api}/repositories/{repository.full_name}/commit/{value}")},
        }

    def ref(self, repository: SimRepository, kind: str, name: str, target: Document) -> Document:
        """A branch or a tag."""
        folder = "branches" if kind == "branch" else "tags"
        result: Document = {
            "type": kind,
            "name": name,
            "target": target,
            "links": {
                "self": link(f"{self.api}/repositories/{repository.full_name}/refs/{folder}/{name}"),
            },
        }
        if kind == "branch":
            result["merge_strategies"] = ["merge_commit", "squash", "fast_forward"]
            result["default_merge_strategy"] = "merge_commit"
        return result
