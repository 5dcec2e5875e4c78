"""Bitbucket's JSON for what is in the world."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mirror.simulator.switches import Switches
from mirror.simulator.world import (
    Comment,
    Issue,
    Pipeline,
    PullRequest,
    SimRepository,
    SimWorkspace,
    Step,
    Task,
    User,
    braced,
)

Document = dict[str, Any]


def core_time(when: datetime) -> str:
    """A time as the API's core writes it."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")


def pipeline_time(when: datetime) -> str:
    """A time as pipelines write it: a Z, and no zeros at the end."""
    text = when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return text + "Z"


def markup(text: str) -> Document:
    """Text with its rendering."""
    return {"type": "rendered", "raw": text, "markup": "markdown", "html": f"<p>{text}</p>"}


def link(href: str) -> Document:
    """A link."""
    return {"href": href}


class Renderer:
    """Renders for one API address. Every call gives fresh objects."""

    def __init__(self, api: str, git: str, switches: Switches) -> None:
        self.api = api
        self.git = git
        self.switches = switches

    def user(self, user: User) -> Document:
        """An account."""
        account = user.uuid[1:9]
        return {
            "type": user.kind,
            "display_name": user.name,
            "uuid": user.uuid,
            "account_id": "557058:" + braced("account", user.email).strip("{}"),
            "nickname": user.name.split()[0].lower(),
            "links": {
                "self": link(f"{self.api}/users/{user.uuid}"),
                "avatar": link(f"https://avatars.example.org/{user.uuid.strip('{}')}?s=64&sig={account}"),
                "html": link(f"https://bitbucket.org/{user.uuid}/"),
            },
        }

    def workspace(self, workspace: SimWorkspace) -> Document:
        """A workspace."""
        return {
            "type": "workspace",
            "uuid": workspace.uuid,
            "slug": workspace.slug,
            "name": workspace.name,
            "is_private": True,
            "created_on": "2020-01-01T00:00:00.000000+00:00",
            "links": {
                "self": link(f"{self.api}/workspaces/{workspace.slug}"),
                "html": link(f"https://bitbucket.org/{workspace.slug}/"),
            },
        }

    def slim_workspace(self, workspace: SimWorkspace) -> Document:
        """A workspace inside other things."""
        full = self.workspace(workspace)
        return {name: full[name] for name in ("type", "uuid", "slug", "name", "links")}

    def project(self, workspace: SimWorkspace, key: str) -> Document:
        """A project."""
        return {
            "type": "project",
            "uuid": braced("project", workspace.slug, key),
            "key": key,
            "name": workspace.projects[key],
            "links": {"html": link(f"https://bitbucket.org/{workspace.slug}/workspace/projects/{key}")},
        }

    def repository(self, repository: SimRepository, login: str | None = None) -> Document:
        """A repository; `login` shows up in the clone link, as it does for signed-in callers."""
        name = repository.full_name
        main = repository.main_branch()
        scheme, _, rest = self.git.partition("://")
        user = f"{login}@" if login else ""
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
            "parent": None,
            "mainbranch": {"type": "branch", "name": main} if main else None,
            "owner": self._team(repository.workspace),
            "workspace": self.slim_workspace(repository.workspace),
            "project": self.project(repository.workspace, repository.project),
            "links": {
                "self": link(f"{self.api}/repositories/{name}"),
                "html": link(f"https://bitbucket.org/{name}"),
                "pullrequests": link(f"{self.api}/repositories/{name}/pullrequests"),
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

    def _slim_repository(self, repository: SimRepository) -> Document:
        return {
            "type": "repository",
            "uuid": repository.uuid,
            "full_name": repository.full_name,
            "name": repository.slug,
            "links": {"self": link(f"{self.api}/repositories/{repository.full_name}")},
        }

    def _end(self, pull: PullRequest, branch: str, commit: str, *, short: bool) -> Document:
        repository = pull.repository
        value = commit[:12] if short else commit
        return {
            "branch": {"name": branch},
            "commit": {
                "type": "commit",
                "hash": value,
                "links": {"self": link(f"{self.api}/repositories/{repository.full_name}/commit/{value}")},
            },
            "repository": self._slim_repository(repository),
        }

    def pull_request(self, pull: PullRequest, *, listed: bool) -> Document:
        """A pull request; in a list (`listed`) it is thinner."""
        short = listed and self.switches.short_hashes
        name = f"{self.api}/repositories/{pull.repository.full_name}/pullrequests/{pull.id}"
        result: Document = {
            "type": "pullrequest",
            "id": pull.id,
            "title": pull.title,
            "description": pull.description,
            "summary": markup(pull.description),
            "state": pull.state,
            "draft": False,
            "author": self.user(pull.author),
            "source": self._end(pull, pull.source, pull.source_hash, short=short),
            "destination": self._end(pull, pull.destination, pull.destination_hash, short=short),
            "merge_commit": {"type": "commit", "hash": pull.merge_hash[: 12 if short else 40]}
            if pull.merge_hash
            else None,
            "comment_count": sum(1 for one in pull.comments if not one.deleted),
            "task_count": len(pull.tasks),
            "close_source_branch": True,
            "closed_by": self.user(pull.closed_by) if pull.closed_by else None,
            "reason": pull.reason,
            "created_on": core_time(pull.created),
            "updated_on": core_time(pull.updated),
            "links": {
                "self": link(name),
                "html": link(f"https://bitbucket.org/{pull.repository.full_name}/pull-requests/{pull.id}"),
                "comments": link(f"{name}/comments"),
                "activity": link(f"{name}/activity"),
            },
        }
        if not listed:
            result.update(self.people(pull))
            result["rendered"] = {"title": markup(pull.title), "description": markup(pull.description)}
        return result

    def people(self, pull: PullRequest) -> Document:
        """What a list leaves out unless asked: reviewers and participants."""
        seen: dict[str, User] = {one.email: one for one in [pull.author, *pull.reviewers]}
        seen.update({one.author.email: one.author for one in pull.comments})
        seen.update({email: user for email, (user, _) in pull.approvals.items()})
        reviewers = {one.email for one in pull.reviewers}
        return {
            "reviewers": [self.user(one) for one in pull.reviewers],
            "participants": [
                {
                    "type": "participant",
                    "user": self.user(one),
                    "role": "REVIEWER" if email in reviewers else "PARTICIPANT",
                    "approved": email in pull.approvals,
                    "state": "approved" if email in pull.approvals else None,
                    "participated_on": core_time(pull.approvals[email][1])
                    if email in pull.approvals
                    else None,
                }
                for email, one in sorted(seen.items())
            ],
        }

    def comment(self, comment: Comment, pull: PullRequest) -> Document:
        """A comment on a pull request."""
        name = f"{self.api}/repositories/{pull.repository.full_name}/pullrequests/{pull.id}"
        text = "" if comment.deleted else comment.text
        result: Document = {
            "type": "pullrequest_comment",
            "id": comment.id,
            "content": markup(text),
            "user": self.user(comment.author),
            "created_on": core_time(comment.created),
            "updated_on": core_time(comment.created),
            "deleted": comment.deleted,
            "pending": False,
            "pullrequest": {
                "type": "pullrequest",
                "id": pull.id,
                "title": pull.title,
                "links": {"self": link(name)},
            },
            "links": {"self": link(f"{name}/comments/{comment.id}")},
        }
        if comment.parent is not None:
            result["parent"] = {
                "id": comment.parent,
                "links": {"self": link(f"{name}/comments/{comment.parent}")},
            }
        if comment.inline is not None:
            result["inline"] = dict(comment.inline)
        return result

    def task(self, task: Task, pull: PullRequest) -> Document:
        """A task."""
        name = f"{self.api}/repositories/{pull.repository.full_name}/pullrequests/{pull.id}"
        result: Document = {
            "id": task.id,
            "state": "RESOLVED" if task.resolved else "UNRESOLVED",
            "content": markup(task.text),
            "creator": self.user(task.author),
            "created_on": core_time(task.created),
            "updated_on": core_time(task.created),
            "pending": False,
            "links": {"self": link(f"{name}/tasks/{task.id}")},
        }
        if task.comment is not None:
            result["comment"] = {
                "id": task.comment,
                "links": {"self": link(f"{name}/comments/{task.comment}")},
            }
        return result

    def activity(self, entry: Document, pull: PullRequest) -> Document:
        """One entry of the activity; it has no id of its own."""
        users = pull.world.users
        about = {"type": "pullrequest", "id": pull.id, "title": pull.title}
        if "comment" in entry:
            return {"pull_request": about, "comment": self.comment(entry["comment"], pull)}
        if "approval" in entry:
            approval = entry["approval"]
            return {
                "pull_request": about,
                "approval": {
                    "date": core_time(approval["date"]),
                    "pullrequest": about,
                    "user": self.user(users[approval["user"]]),
                },
            }
        update = entry["update"]
        return {
            "pull_request": about,
            "update": {
                "state": update["state"],
                "title": update["title"],
                "description": update["description"],
                "reason": update["reason"],
                "author": self.user(users[update["author"]]),
                "date": core_time(update["date"]),
                "source": self._end(pull, pull.source, update["source_hash"], short=True),
                "destination": self._end(pull, pull.destination, update["destination_hash"], short=True),
            },
        }

    def status(self, status: Document) -> Document:
        """A build status."""
        return {
            "type": "build",
            "key": status["key"],
            "name": status["key"],
            "state": status["state"],
            "url": status["url"],
            "description": "",
            "created_on": core_time(status["date"]),
            "updated_on": core_time(status["date"]),
        }

    def commit(self, repository: SimRepository, value: str, message: str) -> Document:
        """A commit."""
        return {
            "type": "commit",
            "hash": value,
            "message": message,
            "links": {"self": link(f"{self.api}/repositories/{repository.full_name}/commit/{value}")},
        }

    def issue(self, issue: Issue) -> Document:
        """An issue."""
        return {
            "type": "issue",
            "id": issue.id,
            "title": issue.title,
            "state": issue.state,
            "kind": "bug",
            "priority": "major",
            "content": markup(issue.content),
            "reporter": self.user(issue.author),
            "assignee": None,
            "votes": 0,
            "created_on": core_time(issue.created),
            "updated_on": core_time(issue.updated),
            "edited_on": None,
            "repository": self._slim_repository(issue.repository),
            "links": {
                "self": link(f"{self.api}/repositories/{issue.repository.full_name}/issues/{issue.id}")
            },
        }

    def issue_comment(self, comment: Comment, issue: Issue) -> Document:
        """A comment on an issue."""
        return {
            "type": "issue_comment",
            "id": comment.id,
            "content": markup(comment.text),
            "user": self.user(comment.author),
            "created_on": core_time(comment.created),
            "updated_on": None,
            "issue": {"type": "issue", "id": issue.id, "title": issue.title},
            "links": {"self": link(f"{self.api}/issue-comments/{comment.id}")},
        }

    def pipeline(self, pipeline: Pipeline) -> Document:
        """A pipeline. Its `self` link leads to an inside host, as recorded ones do."""
        done = pipeline.result is not None
        return {
            "type": "pipeline",
            "uuid": pipeline.uuid,
            "build_number": pipeline.number,
            "repository": self._slim_repository(pipeline.repository),
            "state": {
                "type": "pipeline_state_completed",
                "name": "COMPLETED",
                "result": {"type": "pipeline_state_completed_result", "name": pipeline.result},
            }
            if done
            else {"type": "pipeline_state_in_progress", "name": "IN_PROGRESS"},
            "target": {
                "type": "pipeline_ref_target",
                "ref_type": "branch",
                "ref_name": pipeline.branch,
                "commit": {"type": "commit", "hash": pipeline.commit},
            },
            "trigger": {"type": "pipeline_trigger_push", "name": "PUSH"},
            "created_on": pipeline_time(pipeline.created),
            "completed_on": pipeline_time(pipeline.created) if done else None,
            "build_seconds_used": 42,
            "links": {"self": link(f"http://bitbucket-pipelines.internal.example/pipelines/{pipeline.uuid}")},
        }

    def step(self, step: Step, pipeline: Pipeline) -> Document:
        """A step of a pipeline."""
        done = pipeline.result is not None
        return {
            "type": "pipeline_step",
            "uuid": step.uuid,
            "name": step.name,
            "started_on": pipeline_time(step.started),
            "completed_on": pipeline_time(step.started) if done else None,
            "duration_in_seconds": 21,
            "state": {
                "type": "pipeline_step_state_completed",
                "name": "COMPLETED",
                "result": {"type": "pipeline_step_state_completed_successful", "name": pipeline.result},
            }
            if done
            else {"type": "pipeline_step_state_in_progress", "name": "IN_PROGRESS"},
            "pipeline": {"type": "pipeline", "uuid": pipeline.uuid},
        }
