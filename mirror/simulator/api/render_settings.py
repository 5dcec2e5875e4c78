"""Bitbucket's JSON for settings, downloads, snippets, commit comments and reports."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

from mirror.simulator.api.render_repositories import Document, RepositoryRenderer, core_time, link, markup
from mirror.simulator.world.discussions import Attachment, Comment, Snippet
from mirror.simulator.world.repository import SimRepository
from mirror.simulator.world.world import SimWorkspace


class Settings(RepositoryRenderer):
    """Renders settings, downloads, commit comments, reports and snippets."""

    def repository_setting(self, document: Document, repository: SimRepository) -> Document:
        """A setting of a repository, with its placeholders replaced."""
        own = f"{self.api}/repositories/{repository.full_name}"
        shown: Document = self._expand(document, own, repository.workspace)
        if document.get("type") == "pipelines_config":
            shown["repository"] = self.slim_repository(repository)
        return shown

    def group_setting(self, document: Document, workspace: SimWorkspace, project: str) -> Document:
        """A setting of a workspace or project, with its placeholders replaced."""
        own = f"{self.api}/workspaces/{workspace.slug}" + (f"/projects/{project}" if project else "")
        shown: Document = self._expand(document, own, workspace)
        return shown

    def _expand(self, value: Any, own: str, workspace: SimWorkspace) -> Any:
        match value:
            case {"@user": email}:
                return self.user(workspace.world.users[email])
            case {"@repository": slug}:
                return self.slim_repository(workspace.repositories[slug])
            case dict():
                return {name: self._expand(one, own, workspace) for name, one in value.items()}
            case list():
                return [self._expand(one, own, workspace) for one in value]
            case str() if value.startswith("@api/"):
                return own + value.removeprefix("@api")
        return value

    def download(self, file: Attachment, repository: SimRepository) -> Document:
        """A download, without its content."""
        own = f"{self.api}/repositories/{repository.full_name}/downloads/{file.name}"
        return {
            "type": "download",
            "name": file.name,
            "size": len(file.content),
            "downloads": 0,
            "created_on": core_time(repository.created),
            "links": {"self": link(own)},
        }

    def commit_comment(self, comment: Comment, repository: SimRepository, commit: str) -> Document:
        """A comment on a commit."""
        own = f"{self.api}/repositories/{repository.full_name}/commit/{commit}/comments"
        shown: Document = {
            "type": "commit_comment",
            "id": comment.id,
            "content": markup("" if comment.deleted else comment.text),
            "user": self.user(comment.author),
            "created_on": core_time(comment.created),
            "updated_on": core_time(comment.edited or comment.created),
            "deleted": comment.deleted,
            "commit": self.slim_commit(repository, commit),
            "links": {"self": link(f"{own}/{comment.id}")},
        }
        if comment.parent is not None:
            shown["parent"] = {"id": comment.parent, "links": {"self": link(f"{own}/{comment.parent}")}}
        if comment.inline is not None:
            shown["inline"] = dict(comment.inline)
        return shown

    def report(self, report: Document) -> Document:
        """A report of code insights."""
        return {
            "type": "report",
            "uuid": report["uuid"],
            "title": report["title"],
            "external_id": report["title"],
            "report_type": "TEST",
            "result": "FAILED" if report["annotations"] else "PASSED",
            "created_on": core_time(report["date"]),
            "updated_on": core_time(report["date"]),
            **report.get("fields", {}),
        }

    def annotation(self, when: datetime, item: tuple[str, str] | Document) -> Document:
        """An annotation of a report."""
        if isinstance(item, dict):
            return dict(item)
        uuid, text = item
        return {
            "type": "report_annotation",
            "uuid": uuid,
            "external_id": text,
            "annotation_type": "BUG",
            "path": "README.md",
            "line": 1,
            "summary": text,
            "severity": "LOW",
            "created_on": core_time(when),
            "updated_on": core_time(when),
        }

    def of_tracker(self, kind: str, number: int, name: str, repository: SimRepository) -> Document:
        """A milestone, version or component."""
        own = f"{self.api}/repositories/{repository.full_name}/{kind}/{number}"
        return {"type": kind.removesuffix("s"), "id": number, "name": name, "links": {"self": link(own)}}

    def snippet(self, snippet: Snippet, workspace: str, *, listed: bool) -> Document:
        """A snippet; in a list without its files."""
        own = f"{self.api}/snippets/{workspace}/{snippet.id}"
        scheme, _, rest = self.git.partition("://")
        shown: Document = {
            "type": "snippet",
            "id": snippet.id,
            "title": snippet.title,
            "scm": "git",
            "created_on": core_time(snippet.created),
            "updated_on": core_time(snippet.updated),
            "creator": self.user(snippet.author),
            "is_private": snippet.private,
            "links": {
                "self": link(own),
                "comments": link(f"{own}/comments"),
                "clone": [
                    {"name": "https", "href": f"{scheme}://{workspace}@{rest}/{snippet.address}"},
                    {"name": "ssh", "href": f"git@bitbucket.org:{snippet.address}"},
                ],
            },
        }
        if not listed:
            shown["files"] = {
                name: {"links": {"self": link(self.snippet_file(snippet, workspace, name))}}
                for name in sorted(snippet.files)
            }
        return shown

    def snippet_file(self, snippet: Snippet, workspace: str, name: str) -> str:
        """The URL of a file of a snippet."""
        last = self.switches.snippet_files_name_revision_last
        place = f"files/{snippet.commit[:7]}" if last else f"{snippet.commit}/files"
        return f"{self.api}/snippets/{workspace}/{snippet.id}/{place}/{quote(name, safe='')}"

    def snippet_comment(self, comment: Comment, snippet: Snippet) -> Document:
        """A comment on a snippet."""
        shown: Document = {
            "type": "snippet_comment",
            "id": comment.id,
            "content": markup(comment.text),
            "user": self.user(comment.author),
            "created_on": core_time(comment.created),
            "snippet": {"type": "snippet", "title": snippet.title},
        }
        if comment.parent is not None:
            shown["parent"] = {"id": comment.parent}
        return shown

    def snippet_commit(self, snippet: Snippet) -> Document:
        """The last change of a snippet."""
        return {
            "type": "snippet_commit",
            "hash": snippet.commit,
            "date": core_time(snippet.updated),
            "message": "Edited",
            "author": {"type": "author", "raw": snippet.author.name, "user": self.user(snippet.author)},
        }
