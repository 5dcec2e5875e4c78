"""The page that says what is backed up, from the catalogue: `python -m mirror.cli.backed_up` prints it."""

from __future__ import annotations

from mirror.collect.catalogue import ACCESS_TOKENS, CATALOGUE, NEVER, Level, Meaning, Row

_TITLES: dict[Level, str] = {
    "repository": "Of each repository",
    "project": "Of each project",
    "workspace": "Of the workspace",
}

_HEAD = """# What is backed up

Besides code (every ref under its own name, and every Git LFS object that any of them reaches), wikis and
snippets' repositories (see below), each of the kinds in these tables. This page is made from the catalogue
(`mirror/collect/catalogue.py`), and a test keeps it so.

*Part* is what snapshots, `mirror status` and the configuration (`parts:`, `accept_missing:`) call it; of
settings `accept_missing:` takes single kinds, too (`settings/deploy-keys`).
*Scope* is what the credential needs: as access tokens and OAuth consumers call it, and as users' API
tokens do. *Page* is how many come with one request. A † marks what no access token can ever read,
whatever its scopes, a ‡ what project and repository access tokens cannot: it is *unavailable* to them,
which is told and is no failure.
"""

_REFUSALS = """
## What a refusal means

The tables say of each kind what an answer of 403, 404 or 410 means. Only *none* is an answer; in all
other cases the last good copy is kept, the run ends with 3, and the kind is asked for again in each run.

- *denied*: the credential lacks a scope or a permission; the snapshot names the scope where Bitbucket does.
- *missing*: it always exists, so it is hidden or the server is at fault. It stays missing until it answers.
- *none*: there is none. A 404 is believed only while the repository itself answers: Bitbucket has already
  been "not found" as a whole for most of an hour.
  What is held already, and was answered before, is told as missing for three days first.
- *none where pipelines are off*: the repository's pipelines configuration says whether they are.
- *missing, and retired after three days*: Bitbucket announces the end of a part of its API by answering 410
  for some hours. What answers so for three days counts as gone, and its last good copy stays.
- *none any more*: the same for what is held; where nothing was ever held it is no gap.

A refusal that names a scope is believed for all repositories of the run where there is one credential.
"""

_UPKEEP = """
## How it is kept up to date

- *every run*: it comes with the lists that each run asks for.
- *cursor and sweep*: what was updated since the last run (with ten minutes of overlap); everything
  once a week, or with `--full`. Comments and tasks are asked for only where the thing says that it has
  some, and it changed; activity and approvals come from one list for the whole repository.
- *until done*: never asked again once it has come to its end.
- *slowly*: all kinds together once a week; once a day where requests are left that nobody else wants.
- *when idle*: with requests that nobody else wants. What is still to be asked is counted in the
  snapshot (`…_to_ask`), and the run ends with 75 until there is no more of it.
- *where git lacks it*: when the head of a pull request is not to be had by git any more.

Nothing that was there is dropped: what is gone upstream keeps its last good document, in every later
snapshot, and a mark (`_parts`, `settings/_parts.json`) says since when.
"""

_GIT = """
## What else is a git repository

- *Wikis* (part `wiki`): Bitbucket announced that they end in August 2026. Where git still gives one it is
  mirrored in each run, as the code is. That there is none (404, 410, 401, 403) is a fact and no failure:
  it is asked for again after four to six weeks, or with `--full`. One that was there and goes stays, in
  every later snapshot, marked with since when; it is asked for in each run for three days, and once a day
  for 30 more. Where it is refused (401, 403), or a page comes in its place, that is told as missing for
  those three days, and only then counts as gone.
- *Snippets* (part `snippets`): each is mirrored when its last update or its newest commit is another, and
  all of them once a week. One that is deleted upstream stays. An address to clone from that is not the
  configured git server's is refused and told; that git does not give a snippet is told and no failure,
  where it gave it before only after three days.

What was rewritten or removed stays as it does in code.
"""

_NEVER = """
## Never, because Bitbucket does not give it

{never}
- The refs of pull requests as refs: Bitbucket does not advertise them. Their heads are pinned where git
  still has the commits: in the repository, in a fork that the credential or anybody may read, or by their
  hash, where the server gives that; else the list of commits and the patch are kept, where the API still
  has them. Snapshots and `mirror status` count them: pinned, patched, lost, or not known yet.

## Not yet

Comments and approvals of commits that are no branch's and no pull request's head (`parts: {commit_comments:
all}` asks about every commit), and statuses of commits that are no branch's head; statuses that a build
sends to a pull request after it was closed and asked about.
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
            f" {row.forbidden} | {_not_found(row)} | {row.gone} | {row.restorable} |"
        )
    return "\n".join(lines) + "\n"


def _not_found(row: Row) -> str:
    return f"none: {row.absence}" if row.not_found is Meaning.NONE else str(row.not_found)


if __name__ == "__main__":
    print(page(), end="")
