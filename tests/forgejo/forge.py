"""What a Forgejo holds and how it answers: the part of its API that a restore uses.

Written from Forgejo's published description and from what its source does beyond it: a label may exist twice,
a pull request needs branches, a wiki has no git repository before its first page.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.git.backend import git

NOW = "2026-11-29T03:00:00Z"
# What issues may have attached, unless an administrator allows more.
ATTACHMENT_TYPES = (".gz", ".jpg", ".json", ".log", ".md", ".pdf", ".png", ".txt", ".zip")


class Refused(Exception):
    """A request that is refused, with its status and Forgejo's message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class Repository:
    """A repository. `things` has the answers of each list (`labels`, `issues/3/comments`) in their order."""

    owner: str
    name: str
    data: dict[str, Any]
    things: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    files: dict[int, bytes] = field(default_factory=dict)

    def list(self, kind: str) -> list[dict[str, Any]]:
        """The things of one kind; an empty list for a kind that has none yet."""
        return self.things.setdefault(kind, [])


@dataclass
class Asking:
    """A request that the description allows: its parts of the path, its query, body and files."""

    parts: Mapping[str, str]
    query: Mapping[str, str]
    body: dict[str, Any]
    files: Mapping[str, tuple[str, bytes]]


class Forge:
    """The users, organisations and repositories; `answer` answers one operation."""

    def __init__(self, root: Path, *, login: str, organisations: tuple[str, ...]) -> None:
        self.root = root
        self.login = login
        self.organisations = organisations
        self.users = {login, "ann"}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self._last = 100
        self._routes: dict[str, Callable[[Asking], tuple[int, Any]]] = {
            "GET /user": lambda _: (200, self._user(self.login)),
            "GET /orgs/{org}": self._organisation,
            "POST /user/repos": lambda asking: self._create(self.login, asking.body),
            "POST /orgs/{org}/repos": self._create_in_organisation,
            "GET ": lambda asking: (200, self._repository(asking).data),
            "PATCH ": self._edit,
            "POST /labels": self._add_label,
            "POST /milestones": self._add_milestone,
            "POST /issues": self._add_issue,
            "POST /issues/{index}/comments": self._add_comment,
            "POST /issues/{index}/assets": self._attach,
            "POST /pulls": self._add_pull,
            "POST /releases": self._add_release,
            "POST /releases/{id}/assets": self._add_asset,
            "POST /hooks": self._add_hook,
            "POST /branch_protections": self._protect,
            "POST /keys": self._add_key,
            "GET /wiki/pages": self._pages,
            "POST /wiki/new": self._add_page,
        }

    def answer(self, operation: str, asking: Asking) -> tuple[int, Any]:
        """The status and the answer of an operation. Raises Refused."""
        route = operation.replace("/repos/{owner}/{repo}", "", 1)
        if route in self._routes:
            return self._routes[route](asking)
        assert route.startswith("GET "), route
        return 200, self._listed(asking, route.partition("/")[2].format(**asking.parts))

    # -- who and where

    def _user(self, login: str) -> dict[str, Any]:
        return {"id": 1 + sorted(self.users).index(login), "login": login, "is_admin": False}

    def _organisation(self, asking: Asking) -> tuple[int, Any]:
        name = asking.parts["org"]
        if name not in self.organisations:
            raise Refused(404, "The target couldn't be found.")
        return 200, {"id": 7, "name": name, "username": name}

    def _repository(self, asking: Asking) -> Repository:
        key = asking.parts["owner"].lower(), asking.parts["repo"].lower()
        if key not in self.repositories:
            raise Refused(404, "The target couldn't be found.")
        return self.repositories[key]

    def _create_in_organisation(self, asking: Asking) -> tuple[int, Any]:
        if asking.parts["org"] not in self.organisations:
            raise Refused(422, f"organization does not exist [name: {asking.parts['org']}]")
        return self._create(asking.parts["org"], asking.body)

    def _create(self, owner: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        name = body["name"]
        if len(name) > 100 or name.endswith((".git", ".wiki")):
            raise Refused(422, f"the repository's name is not allowed [name: {name}]")
        if (owner.lower(), name.lower()) in self.repositories:
            raise Refused(409, "The repository with the same name already exists.")
        data = {
            "id": self._number(), "name": name, "full_name": f"{owner}/{name}", "owner": {"login": owner},
            "private": body.get("private", False), "description": body.get("description", ""),
            "default_branch": body.get("default_branch") or "main", "wiki_branch": "main", "empty": True,
            "has_issues": True, "has_wiki": True, "website": "",
        }  # fmt: skip
        self.repositories[owner.lower(), name.lower()] = Repository(owner, name, data)
        git("init", "-q", "--bare", "-b", data["default_branch"], str(self.git_of(owner, name)))
        # Forgejo keeps the heads of its own pull requests there.
        git("config", "receive.hideRefs", "refs/pull", cwd=self.git_of(owner, name))
        return 201, data

    def git_of(self, owner: str, name: str) -> Path:
        """The bare repository of the code, or with `NAME.wiki` of the wiki."""
        return self.root / owner.lower() / f"{name.lower()}.git"

    def _edit(self, asking: Asking) -> tuple[int, Any]:
        repository = self._repository(asking)
        changes = dict(asking.body)
        branch = changes.pop("default_branch", None)
        if branch is not None and self._tip(repository, branch) is not None:
            place = self.git_of(repository.owner, repository.name)
            git("symbolic-ref", "HEAD", f"refs/heads/{branch}", cwd=place)
            repository.data["default_branch"] = branch
        repository.data.update(changes)
        return 200, repository.data

    def _tip(self, repository: Repository, branch: str) -> str | None:
        place = self.git_of(repository.owner, repository.name)
        found = git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}", cwd=place)
        return found.strip() or None

    # -- lists

    def _listed(self, asking: Asking, kind: str) -> list[dict[str, Any]]:
        repository, query = self._repository(asking), asking.query
        if kind == "pulls":
            found = [one["_pull"] for one in repository.list("issues") if "_pull" in one]
        elif kind == "issues":
            wants_pulls = {"pulls": True, "issues": False}.get(query.get("type", ""))
            found = [
                one
                for one in repository.list("issues")
                if wants_pulls is None or ("_pull" in one) is wants_pulls
            ]
        else:
            found = repository.list(kind)
        if kind in ("issues", "pulls", "milestones"):
            state = query.get("state") or "open"
            found = [one for one in found if state in (one["state"], "all")]
        return [{key: value for key, value in one.items() if not key.startswith("_")} for one in found]

    # -- making

    def _number(self) -> int:
        self._last += 1
        return self._last

    def _made(self, asking: Asking, kind: str, thing: dict[str, Any]) -> tuple[int, Any]:
        made = {"id": self._number(), **thing}
        self._repository(asking).list(kind).append(made)
        return 201, {key: value for key, value in made.items() if not key.startswith("_")}

    def _add_label(self, asking: Asking) -> tuple[int, Any]:
        color = asking.body["color"].removeprefix("#").lower()
        if len(color) not in (3, 6) or set(color) - set("0123456789abcdef"):
            raise Refused(422, "color must be a 6 character hex code")
        label = {"description": "", "exclusive": False, "is_archived": False, **asking.body, "color": color}
        return self._made(asking, "labels", label)

    def _add_milestone(self, asking: Asking) -> tuple[int, Any]:
        body = asking.body
        return self._made(asking, "milestones", {
            "title": body.get("title", ""), "description": body.get("description", ""),
            "state": "closed" if body.get("state") == "closed" else "open", "open_issues": 0,
            "due_on": body.get("due_on"),
        })  # fmt: skip

    def _add_issue(self, asking: Asking) -> tuple[int, Any]:
        repository, body = self._repository(asking), asking.body
        issue = self._issue(repository, body)
        issue["state"] = "closed" if body.get("closed") else "open"
        return self._made(asking, "issues", issue)

    def _issue(self, repository: Repository, body: Mapping[str, Any]) -> dict[str, Any]:
        labels = {one["id"]: one for one in repository.list("labels")}
        if set(body.get("labels") or ()) - set(labels):
            raise Refused(500, "")
        milestones = {one["id"]: one for one in repository.list("milestones")}
        if body.get("milestone") and body["milestone"] not in milestones:
            raise Refused(404, "The target couldn't be found.")
        for login in body.get("assignees") or ():
            if login not in self.users:
                raise Refused(422, f"Assignee does not exist: [name: user does not exist [name: {login}]]")
        return {
            "number": len(repository.list("issues")) + 1, "title": body["title"],
            "body": body.get("body", ""), "user": self._user(self.login),
            "created_at": NOW, "updated_at": NOW, "comments": 0,
            "state": "open", "labels": [labels[one] for one in body.get("labels") or ()],
            "milestone": milestones.get(body.get("milestone")),
            "assignees": [self._user(one) for one in body.get("assignees") or ()] or None,
        }  # fmt: skip

    def _add_pull(self, asking: Asking) -> tuple[int, Any]:
        repository, body = self._repository(asking), asking.body
        head, base = body.get("head"), body.get("base")
        if not head or not base or not body.get("title"):
            raise Refused(422, "[]: Required")
        if head == base:
            raise Refused(422, "Invalid PullRequest: There are no changes between the head and the base")
        tips = self._tip(repository, head), self._tip(repository, base)
        if None in tips:
            raise Refused(404, "The target couldn't be found.")
        for one in repository.list("issues"):
            pull = one.get("_pull")
            if pull and one["state"] == "open" and (pull["head"]["ref"], pull["base"]["ref"]) == (head, base):
                raise Refused(409, "pull request already exists for these targets")
        issue = self._issue(repository, body)
        pull = {
            **issue, "id": self._number(), "draft": issue["title"].startswith(("WIP:", "[WIP]")),
            "merged": False, "head": {"ref": head, "label": head, "sha": tips[0]},
            "base": {"ref": base, "label": base, "sha": tips[1]},
        }  # fmt: skip
        self._made(asking, "issues", {**issue, "_pull": pull})
        return 201, pull

    def _add_comment(self, asking: Asking) -> tuple[int, Any]:
        index = asking.parts["index"]
        if not any(str(one["number"]) == index for one in self._repository(asking).list("issues")):
            raise Refused(404, "The target couldn't be found.")
        if not asking.body["body"].strip():
            raise Refused(422, "[Body]: Required")
        return self._made(asking, f"issues/{index}/comments", {
            "body": asking.body["body"], "user": self._user(self.login), "created_at": NOW, "updated_at": NOW,
        })  # fmt: skip

    def _attach(self, asking: Asking) -> tuple[int, Any]:
        index = asking.parts["index"]
        if not any(str(one["number"]) == index for one in self._repository(asking).list("issues")):
            raise Refused(404, "The target couldn't be found.")
        if not asking.files["attachment"][0].lower().endswith(ATTACHMENT_TYPES):
            raise Refused(422, "This file extension or type is not allowed to be uploaded.")
        return self._file(asking, f"issues/{index}/assets")

    def _add_asset(self, asking: Asking) -> tuple[int, Any]:
        known = {str(one["id"]) for one in self._repository(asking).list("releases")}
        if asking.parts["id"] not in known:
            raise Refused(404, "The target couldn't be found.")
        return self._file(asking, f"releases/{asking.parts['id']}/assets")

    def _file(self, asking: Asking, kind: str) -> tuple[int, Any]:
        name, content = asking.files["attachment"]
        name = asking.query.get("name") or name
        status, made = self._made(asking, kind, {"name": name, "size": len(content), "created_at": NOW})
        self._repository(asking).files[made["id"]] = content
        return status, made

    def _add_release(self, asking: Asking) -> tuple[int, Any]:
        repository, body = self._repository(asking), asking.body
        place = self.git_of(repository.owner, repository.name)
        tip = self._tip(repository, body.get("target_commitish") or repository.data["default_branch"])
        if tip is None:
            raise Refused(422, "repo is empty")
        if any(one["tag_name"] == body["tag_name"] for one in repository.list("releases")):
            raise Refused(409, "Release is has no Tag")
        if not body.get("draft") and not git("tag", "--list", body["tag_name"], cwd=place).strip():
            git("tag", body["tag_name"], tip, cwd=place)
        release = {"name": "", "body": "", "draft": False, "prerelease": False, **body, "assets": []}
        return self._made(asking, "releases", release)

    def _add_hook(self, asking: Asking) -> tuple[int, Any]:
        body = asking.body
        for name in ("url", "content_type"):
            if name not in body["config"]:
                raise Refused(422, f"Missing config option: {name}")
        if not body["config"]["url"].startswith(("http://", "https://")):
            raise Refused(422, "Invalid url")
        # A secret is never answered.
        shown = {name: body["config"][name] for name in ("url", "content_type")}
        return self._made(asking, "hooks", {
            "type": body["type"], "active": body.get("active", False), "config": shown,
            "events": body.get("events") or ["push"], "_secret": body["config"].get("secret"),
        })  # fmt: skip

    def _protect(self, asking: Asking) -> tuple[int, Any]:
        body = asking.body
        name = body.get("rule_name") or body.get("branch_name")
        rules = self._repository(asking).list("branch_protections")
        if any(one["rule_name"] == name for one in rules):
            raise Refused(403, "Branch protection already exist")
        for users in ("push_whitelist_usernames", "merge_whitelist_usernames"):
            if unknown := sorted(set(body.get(users) or ()) - self.users):
                raise Refused(422, f"user does not exist [name: {unknown[0]}]")
        _, made = self._made(asking, "branch_protections", {**body, "rule_name": name})
        del made["id"], rules[-1]["id"]
        return 201, made

    def _add_key(self, asking: Asking) -> tuple[int, Any]:
        body, known = asking.body, self._repository(asking).list("keys")
        if not body["key"].startswith("ssh-"):
            raise Refused(422, "Invalid key content")
        if any(one["key"] == body["key"] for one in known):
            raise Refused(422, "This key has already been added to this repository")
        if any(one["title"] == body["title"] for one in known):
            raise Refused(422, "A key with the same name already exists")
        return self._made(asking, "keys", {"read_only": False, **body})

    # -- the wiki

    def _pages(self, asking: Asking) -> tuple[int, Any]:
        repository = self._repository(asking)
        place = self.git_of(repository.owner, f"{repository.name}.wiki")
        branch = repository.data["wiki_branch"]
        if not place.exists():
            raise Refused(404, "The target couldn't be found.")
        names = git("ls-tree", "--name-only", branch, cwd=place, check=False).splitlines()
        return 200, [{"title": name.removesuffix(".md")} for name in names if name.endswith(".md")]

    def _add_page(self, asking: Asking) -> tuple[int, Any]:
        repository, body = self._repository(asking), asking.body
        if not body.get("title"):
            raise Refused(400, "")
        b64decode(body.get("content_base64", ""), validate=True)
        place = self.git_of(repository.owner, f"{repository.name}.wiki")
        branch = repository.data["wiki_branch"]
        if not place.exists():
            git("init", "-q", "--bare", "-b", branch, str(place))
            blob = git(
                "hash-object", "-w", "--stdin", cwd=place, stdin=b64decode(body["content_base64"])
            ).strip()
            line = f"100644 blob {blob}\t{body['title']}.md\n".encode()
            tree = git("mktree", cwd=place, stdin=line).strip()
            commit = git("commit-tree", tree, "-m", body.get("message") or "Add", cwd=place).strip()
            git("update-ref", f"refs/heads/{branch}", commit, cwd=place)
        return 201, {"title": body["title"], "content_base64": body["content_base64"]}
