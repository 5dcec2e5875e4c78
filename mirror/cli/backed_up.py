"""Generates docs/what-is-backed-up.md from the catalogue: `python -m mirror.cli.backed_up` prints it."""

from __future__ import annotations

from mirror.collect.catalogue import ACCESS_TOKENS, CATALOGUE, NEVER, Level, Meaning, Row

_TITLES: dict[Level, str] = {
    "repository": "Of each repository",
    "project": "Of each project",
    "workspace": "Of the workspace",
}

_HEAD = """# What is backed up

Code (every ref under its own name, and every Git LFS object that any of them reaches), wikis and snippets'
repositories (see below), and each of the kinds in these tables. This page is generated from the catalogue
(`mirror/collect/catalogue.py`), and a test keeps them equal.

*Part* is the name in snapshots, in `mirror status` and in the configuration (`parts:`, `accept_missing:`).
For settings, `accept_missing:` also takes single kinds (`settings/deploy-keys`).
*Scope* is what the credential needs: the name for access tokens and OAuth consumers, and the name for users'
API tokens. *Page* is how many entries one request returns. A † marks what no access token can ever read,
whatever its scopes; a ‡ marks what project and repository access tokens cannot. It is *unavailable* to them,
which is reported and is no failure.
"""

_REFUSALS = """
## What a refusal means

The tables say for each kind what a response of 403, 404 or 410 means. Only *none* is a result; in all
other cases the last good copy is kept, the run exits with 3, and each run requests the kind again.

- *denied*: the credential lacks a scope or a permission; the snapshot names the scope where Bitbucket does.
- *missing*: it always exists, so it is hidden or the server is at fault. It stays missing until it is
  readable.
- *none*: there is none. A 404 counts only while the repository itself can be read: all of Bitbucket has
  answered "not found" for most of an hour before.
  What was read before is reported as missing for three days first.
- *none where pipelines are off*: the repository's pipelines configuration says whether they are.
- *missing, and retired after three days*: Bitbucket announces the end of a part of its API by answering 410
  for some hours. After three days of 410 it counts as gone, and its last good copy is kept.
- *none any more*: the same for what was stored before; where nothing was ever stored it is no gap.

With a single credential, a refusal that names a scope counts for all repositories of the run.
"""

_UPKEEP = """
## How it is kept up to date

- *every run*: it is part of the lists that each run requests.
- *cursor and sweep*: what was updated since the last run (with ten minutes of overlap); everything
  once a week, or with `--full`. Comments and tasks are requested only for items that changed and report
  having some; activity and approvals come from one list for the whole repository.
- *until done*: never requested again once it is finished.
- *slowly*: all kinds together once a week; once a day where requests are left over.
- *when idle*: with requests that are left over. The snapshot counts what remains to be requested
  (`…_to_ask`), and the run exits with 75 until nothing remains.
- *where git lacks it*: when git can no longer provide the head of a pull request.

Nothing is dropped: what is gone upstream keeps its last good document in every later snapshot, and a mark
(`_parts`, `settings/_parts.json`) says since when.
"""

_GIT = """
## What else is a git repository

- *Wikis* (part `wiki`): Bitbucket announced that they end in August 2026. Where git still serves one, each
  run mirrors it like the code. A missing wiki (404, 410, 401, 403) is no failure: it is tried again after
  four to six weeks, or with `--full`. A wiki that disappears is kept in every later snapshot, marked with
  since when; it is tried in each run for three days, and once a day for 30 more. Where it is refused
  (401, 403), or a web page comes in its place, it is reported as missing for those three days, and only
  then counts as gone.
- *Snippets* (part `snippets`): each is mirrored when its last update or its newest commit differs, and all of
  them once a week. A snippet that is deleted upstream is kept. A clone URL outside the configured git server
  is refused and reported. A snippet that git does not serve is reported, and is no failure; where git served
  it before, only after three days.

Rewritten and removed refs are kept as in code.
"""

_NEVER = """
## Never, because Bitbucket does not provide it

{never}
- The refs of pull requests as refs: Bitbucket does not advertise them. Their heads are pinned where git
  still has the commits: in the repository, in a fork that the credential or anybody may read, or by their
  hash, where the server allows that. Otherwise the list of commits and the patch are kept, where the API
  still has them. Snapshots and `mirror status` count them: pinned, patched, lost, or not known yet.

## Not yet

Comments and approvals of commits other than the heads of branches and pull requests (`parts:
{commit_comments: all}` requests those of every commit); statuses of commits other than the heads of branches;
statuses that a build sends to a pull request after it was closed and backed up.
"""


def page() -> str:
    """The whole page, as Markdown."""
    parts = [_HEAD]
    for level, title in _TITLES.items():
        parts.append(f"\n## {title}\n\n{_table([row for row in CATALOGUE if row.level == level])}")
    never = "\n".join(f"- {one.what[0].upper()}{one.what[1:]}: {one.why}." for one in NEVER)
    return "".join([*parts, _REFUSALS, _UPKEEP, _GIT, _NEVER.replace("{never}", never)])


def _table(several: list[Row]) -> str:
    lines = [
        "| kind | part | document | scope | page | kept up to date | 403 | 404 | 410 | put back |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in several:
        end = row.endpoint
        size = str(end.page_size) if end.page_size else "-"
        mark = " †" if row.never_for >= ACCESS_TOKENS else " ‡" if row.never_for else ""
        scopes = f"{end.scope}, {end.api_token_scope}"
        lines.append(
            f"| {row.kind}{mark} | {row.part} | `{row.document}` | {scopes} | {size} | {row.upkeep} |"
            f" {row.forbidden} | {_not_found(row)} | {row.gone} | {row.put_back} |"
        )
    return "\n".join(lines) + "\n"


def _not_found(row: Row) -> str:
    return f"none: {row.absence}" if row.not_found is Meaning.NONE else str(row.not_found)


if __name__ == "__main__":
    print(page(), end="")
