"""Bitbucket's JSON for pull requests, issues and pipelines."""

from __future__ import annotations

from typing import Any

from mirror.simulator.api.render_repositories import Document, core_time, link, markup, pipeline_time
from mirror.simulator.api.render_settings import Settings
from mirror.simulator.world.builds import Pipeline, Step
from mirror.simulator.world.discussions import Change, Comment, Issue, PullRequest, Task
from mirror.simulator.world.git_repository import GitRepository
from mirror.simulator.world.people import User, braced


class Renderer(Settings):
    """Renders pull requests, issues and pipelines, and all that its bases render."""

    def _pull_address(self, pull: PullRequest) -> str:
        return f"{self.api}/repositories/{pull.repository.full_name}/pullrequests/{pull.id}"

    def _source(self, pull: PullRequest, value: str, *, short: bool) -> Document:
        """The source of a pull request. Of a deleted fork only the branch name remains."""
        origin = pull.origin
        if origin.gone:
            return {"branch": {"name": pull.source}, "commit": None, "repository": None}
        return {
            "branch": {"name": pull.source},
            "commit": self.slim_commit(origin, value[:12] if short else value),
            "repository": self.slim_repository(origin),
        }

    def _destination(self, pull: PullRequest, value: str, *, short: bool) -> Document:
        repository = pull.repository
        is_gone = self.switches.gone_branches_lose_commits and not repository.has_branch(pull.destination)
        return {
            "branch": {"name": pull.destination},
            "commit": None if is_gone else self.slim_commit(repository, value[:12] if short else value),
            "repository": self.slim_repository(repository),
        }

    def pull_request(self, pull: PullRequest, *, listed: bool) -> Document:
        """A pull request; in a list (`listed`) with fewer fields."""
        short = listed and self.switches.short_hashes
        name = self._pull_address(pull)
        result: Document = {
            "type": "pullrequest",
            "id": pull.id,
            "title": pull.title,
            "description": pull.description,
            "summary": markup(pull.description),
            "state": pull.state,
            "draft": pull.draft,
            "queued": False,
            "author": self.user(pull.author),
            "source": self._source(pull, pull.source_hash, short=short),
            "destination": self._destination(pull, pull.destination_hash, short=short),
            "merge_commit": self.slim_commit(pull.repository, pull.merge_hash[: 12 if short else 40])
            if pull.merge_hash
            else None,
            "comment_count": sum(1 for one in pull.comments if not one.deleted),
            "task_count": len(pull.tasks),
            "close_source_branch": pull.close_source_branch,
            "closed_by": self.user(pull.closed_by) if pull.closed_by else None,
            "reason": pull.reason,
            "created_on": core_time(pull.created),
            "updated_on": core_time(pull.updated),
            "links": {
                "self": link(name),
                "html": link(f"https://bitbucket.org/{pull.repository.full_name}/pull-requests/{pull.id}"),
                "commits": link(f"{name}/commits"),
                "comments": link(f"{name}/comments"),
                "activity": link(f"{name}/activity"),
            },
        }
        if not listed:
            result.update(self.people(pull))
            result["rendered"] = {"title": markup(pull.title), "description": markup(pull.description)}
        return result

    def people(self, pull: PullRequest) -> Document:
        """The fields that a list omits by default: reviewers and participants."""
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
        name = self._pull_address(pull)
        text = "" if comment.deleted else comment.text
        result: Document = {
            "type": "pullrequest_comment",
            "id": comment.id,
            "content": markup(text),
            "user": self.user(comment.author),
            "created_on": core_time(comment.created),
            "updated_on": core_time(comment.edited or comment.created),
            "deleted": comment.deleted,
            "pending": comment.pending,
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
        if comment.resolved is not None:
            user, when = comment.resolved
            result["resolution"] = {
                "type": "comment_resolution",
                "user": self.user(user),
                "created_on": core_time(when),
            }
        return result

    def task(self, task: Task, pull: PullRequest) -> Document:
        """A task."""
        name = self._pull_address(pull)
        result: Document = {
            "id": task.id,
            "state": "RESOLVED" if task.resolved else "UNRESOLVED",
            "content": markup(task.text),
            "creator": self.user(task.author),
            "created_on": core_time(task.created),
            "updated_on": core_time(task.edited or task.created),
            "pending": task.pending,
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
        about = {
            "type": "pullrequest",
            "id": pull.id,
            "title": pull.title,
            "links": {"self": link(self._pull_address(pull))},
        }
        if "comment" in entry:
            return {"pull_request": about, "comment": self.comment(entry["comment"], pull)}
        for kind in ("approval", "changes_requested"):
            if kind in entry:
                found = entry[kind]
                return {
                    "pull_request": about,
                    kind: {
                        "date": core_time(found["date"]),
                        "pullrequest": about,
                        "user": self.user(users[found["user"]]),
                    },
                }
        update = entry["update"]
        short = self.switches.short_hashes
        return {
            "pull_request": about,
            "update": {
                "state": update["state"],
                "title": update["title"],
                "description": update["description"],
                "reason": update["reason"],
                "author": self.user(users[update["author"]]),
                "date": core_time(update["date"]),
                "source": self._source(pull, update["source_hash"], short=short),
                "destination": self._destination(pull, update["destination_hash"], short=short),
            },
        }

    def status(self, status: Document, pull: PullRequest) -> Document:
        """A build status of a pull request's head."""
        return {**self.commit_status(status, pull.origin, pull.source_hash), "refname": pull.source}

    def commit_status(self, status: Document, repository: GitRepository, value: str) -> Document:
        """A build status of a commit."""
        commit = f"{self.api}/repositories/{repository.full_name}/commit/{value}"
        return {
            "type": "build",
            "key": status["key"],
            "name": status.get("name", status["key"]),
            "state": status["state"],
            "url": status["url"],
            "description": status.get("description", ""),
            **({"refname": status["refname"]} if "refname" in status else {}),
            "created_on": core_time(status["date"]),
            "updated_on": core_time(status["updated"] if "updated" in status else status["date"]),
            "links": {"self": link(f"{commit}/statuses/build/{status['key']}"), "commit": link(commit)},
        }

    # -- issues

    def _issue_address(self, issue: Issue) -> str:
        return f"{self.api}/repositories/{issue.repository.full_name}/issues/{issue.id}"

    def issue(self, issue: Issue) -> Document:
        """An issue."""
        name = self._issue_address(issue)
        return {
            "type": "issue",
            "id": issue.id,
            "title": issue.title,
            "state": issue.state,
            "kind": "bug",
            "priority": "major",
            "milestone": None,
            "version": None,
            "component": None,
            "content": markup(issue.content),
            "reporter": self.user(issue.author),
            "assignee": None,
            "votes": 0,
            "watches": 1,
            "created_on": core_time(issue.created),
            "updated_on": core_time(issue.updated),
            "edited_on": None,
            "repository": self.slim_repository(issue.repository),
            "links": {
                "self": link(name),
                "comments": link(f"{name}/comments"),
                "attachments": link(f"{name}/attachments"),
            },
        }

    def _slim_issue(self, issue: Issue) -> Document:
        return {
            "type": "issue",
            "id": issue.id,
            "title": issue.title,
            "repository": self.slim_repository(issue.repository),
            "links": {"self": link(self._issue_address(issue))},
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
            "issue": self._slim_issue(issue),
            "links": {"self": link(f"{self._issue_address(issue)}/comments/{comment.id}")},
        }

    def issue_change(self, change: Change, issue: Issue) -> Document:
        """A change of an issue."""
        return {
            "type": "issue_change",
            "id": change.id,
            "name": "issue_change",
            "created_on": core_time(change.when),
            "user": self.user(change.author),
            "issue": self._slim_issue(issue),
            "changes": {name: {"old": old, "new": new} for name, (old, new) in change.fields.items()},
            "message": markup(""),
            "links": {"self": link(f"{self._issue_address(issue)}/changes/{change.id}")},
        }

    def attachment(self, name: str, issue: Issue) -> Document:
        """An attachment of an issue, without its content."""
        return {
            "type": "issue_attachment",
            "name": name,
            "links": {"self": link(f"{self._issue_address(issue)}/attachments/{name}")},
        }

    # -- pipelines

    def pipeline(self, pipeline: Pipeline) -> Document:
        """A pipeline. Its `self` link names an internal host, as in recorded responses."""
        done = pipeline.result is not None
        inside = f"http://bitbucket-pipelines.internal.example/pipelines/{pipeline.uuid}"
        return {
            "type": "pipeline",
            "uuid": pipeline.uuid,
            "build_number": pipeline.number,
            "repository": self.slim_repository(pipeline.repository),
            "state": self._pipeline_state("pipeline_state", pipeline.result),
            "target": {
                "type": "pipeline_ref_target",
                "ref_type": "branch",
                "ref_name": pipeline.branch,
                "commit": {"type": "commit", "hash": pipeline.commit},
            },
            "trigger": {"type": "pipeline_trigger_push", "name": "PUSH"},
            "created_on": pipeline_time(pipeline.created),
            **({"completed_on": pipeline_time(pipeline.created)} if done else {}),
            "build_seconds_used": 42,
            "links": {"self": link(inside)},
        }

    def _pipeline_state(self, prefix: str, result: str | None) -> Document:
        if result is None:
            return {"type": f"{prefix}_in_progress", "name": "IN_PROGRESS"}
        kind = f"{prefix}_completed_{result.lower()}"
        return {
            "type": f"{prefix}_completed",
            "name": "COMPLETED",
            "result": {"type": kind, "name": result},
        }

    def step(self, step: Step, pipeline: Pipeline) -> Document:
        """A step of a pipeline."""
        done = pipeline.result is not None
        result: dict[str, Any] = {
            "type": "pipeline_step",
            "uuid": step.uuid,
            "name": step.name,
            "started_on": pipeline_time(step.started),
            **({"completed_on": pipeline_time(step.started)} if done else {}),
            "duration_in_seconds": 21,
            "state": self._pipeline_state("pipeline_step_state", pipeline.result),
            "setup_commands": [],
            "script_commands": [],
            "pipeline": {"type": "pipeline", "uuid": pipeline.uuid},
        }
        if step.services:
            result["services"] = [{"uuid": step.service(name), "name": name} for name in step.services]
        return result

    def test_report(self, step: Step) -> Document:
        """The test cases of a step, counted by result."""
        failed = sum(1 for reason in step.tests.values() if reason is not None)
        return {
            "number_of_test_cases": len(step.tests),
            "number_of_successful_test_cases": len(step.tests) - failed,
            "number_of_failed_test_cases": failed,
            "number_of_skipped_test_cases": 0,
            "step_uuid": step.uuid,
        }

    def test_case(self, name: str, reason: str | None, step: Step) -> Document:
        """One test case."""
        return {
            "type": "pipelines_test_case",
            "uuid": braced("test", step.uuid, name),
            "name": name,
            "fully_qualified_name": f"tests.{name}",
            "status": "SUCCESSFUL" if reason is None else "FAILED",
        }

    def test_case_reason(self, reason: str) -> Document:
        """Why a test case failed."""
        return {"message": reason, "stack_trace": f"AssertionError: {reason}"}
