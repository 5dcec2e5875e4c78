"""A copy that differs in anything that Bitbucket lets anyone set is found; a faithful one is equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from mirror.bitbucket.settable import THINGS, UNSEEN, UNSEEN_FIELDS, Thing, settable_fields
from mirror.bitbucket.settable import things as all_things
from mirror.collect.catalogue import CATALOGUE
from mirror.model import Json, Refs
from mirror.restore.comparison.compare import compare_repository, compare_workspace
from mirror.restore.comparison.differences import Comparison
from mirror.restore.comparison.documents import (
    COMMITS,
    ELSEWHERE,
    LISTS,
    NESTS,
    NEVER,
    PULL_REQUESTS,
    SNIPPETS,
    WHOLE,
    WORKSPACE_LISTS,
    WORKSPACE_NESTS,
    WORKSPACE_NEVER,
    reason,
)
from mirror.restore.comparison.matching import Match, Rules
from mirror.restore.comparison.sides import StoredSide
from mirror.store.reading.reader import MirrorRefs, Store
from tests.drill.sample import Held, whole_store

Document = dict[str, Any]
SCHEDULE = "settings/schedules.json"
HEAD = "pull-requests/0/3.json"


@cache
def _sides() -> tuple[Held, Held]:
    with Store.open(whole_store()) as store:
        [website] = [one for one in store.repositories() if one.slug == "website"]
        [acme] = store.workspaces()
        sides = []
        for folder in (website, acme):
            latest = folder.metadata.latest()
            assert latest is not None
            sides.append(Held.of(StoredSide(folder, latest)))
    _complete(sides[0])
    return sides[0], sides[1]


def _complete(website: Held) -> None:
    """Add what the sample lacks: each kind of thing, and each field."""
    [schedule] = website.documents[SCHEDULE]
    selector = {"type": "branches", "pattern": "main"}
    schedule["target"] = {"ref_name": "main", "ref_type": "branch", "selector": selector}
    pull = website.documents[HEAD]
    first = pull["comments"][0]
    first["inline"] |= {"start_from": None, "start_to": None}
    pull["comments"].append({**deepcopy(first), "id": 90, "parent": {"id": first["id"]}, "inline": None})
    pull["comments"][-1]["content"]["raw"] = "So it is."
    pull["tasks"][0]["comment"] = {"id": first["id"]}
    pull["pull_request"]["reviewers"] = [{"type": "user", "uuid": "{ann}"}]
    status = {"key": "nightly", "state": "FAILED", "name": "Nightly", "url": "https://ci.example.org/"}
    for path, document in website.documents.items():
        if path.startswith(COMMITS) and document["comments"]:
            document["statuses"] = [{**status, "description": "No space left", "refname": "main"}]
            [report] = document["reports"]
            report["report"] |= {
                "details": "All of it", "link": "https://ci.example.org/2", "logo_url": "https://ci.example.org/3",
                "remote_link_enabled": True, "reporter": "ci", "data": [{"title": "Lines", "value": 3}],
            }  # fmt: skip
            report["annotations"][0] |= {
                "details": "All",
                "link": "https://ci.example.org/4",
                "result": "FAILED",
            }
            document["comments"][0]["inline"] = {"path": "README.md", "from": None, "to": 1}


def _copies() -> tuple[Held, Held]:
    """The sides as a restore leaves them: closed pull requests are missing."""
    website, acme = (replace(one, documents=deepcopy(one.documents)) for one in _sides())
    for number in (1, 2):
        del website.documents[f"pull-requests/0/{number}.json"]
    return website, acme


def _compared(website: Held, acme: Held) -> Comparison:
    old_website, old_acme = _sides()
    result = Comparison()
    compare_repository(Match(old_website.name, result), old_website, website)
    compare_workspace(Match(old_acme.name, result), old_acme, acme)
    return result


def _found(change: Callable[[Held, Held], object]) -> list[str]:
    """The lines that a changed copy gives."""
    website, acme = _copies()
    change(website, acme)
    return [one.line for one in _compared(website, acme).found]


def test_a_faithful_copy_is_equal() -> None:
    done = _compared(*_copies())
    assert [one.line for one in done.found] == []
    assert done.things > 40 and done.refs == 3
    closed = [one.name for one in done.lost if one.thing == "pull request"]
    assert closed == ["1", "2"]


def _instances(website: Held, acme: Held) -> Iterator[tuple[Thing, Document]]:
    """Every thing in the documents, with its kind."""
    for side, lists, nests in (
        (website, LISTS, NESTS), (acme, WORKSPACE_LISTS, WORKSPACE_NESTS),
    ):  # fmt: skip
        for path, thing in WHOLE.items() if side is website else ():
            yield thing, side.documents[path]
        for path, thing in lists.items():
            yield from ((thing, one) for one in side.documents[path])
        for path, document in side.documents.items():
            nest = nests.get(path.partition("/")[0])
            if nest is not None:
                yield nest.thing, document[nest.key]
                for child, thing in nest.lists.items():
                    yield from ((thing, one) for one in document[child])
                yield from ((thing, document[child]) for child, thing in nest.wholes.items())
    yield from ((all_things.DOWNLOAD, one) for one in website.documents["downloads.json"])
    pull = website.documents[HEAD]
    yield all_things.PULL_REQUEST, pull["pull_request"]
    yield from ((all_things.PULL_REQUEST_COMMENT, one) for one in pull["comments"] if not one["deleted"])
    yield from ((all_things.TASK, one) for one in pull["tasks"])
    for path, document in website.documents.items():
        if path.startswith(COMMITS):
            yield from ((all_things.COMMIT_COMMENT, one) for one in document["comments"])
            yield from ((all_things.COMMIT_STATUS, one) for one in document["statuses"] or ())
            for one in document["reports"]:
                yield all_things.REPORT, one["report"]
                yield from ((all_things.ANNOTATION, two) for two in one["annotations"])
    for path, document in acme.documents.items():
        if path.startswith(SNIPPETS):
            yield all_things.SNIPPET, document["snippet"]
            yield from ((all_things.SNIPPET_COMMENT, one) for one in document["comments"])


def _other(value: Json) -> Json:
    """A value that differs."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return [*value, {"type": "user", "uuid": "{another}"}]
    return f"{value or ''} another"


def _set_at(data: Document, name: str, value: Json) -> None:
    *above, last = name.split(".")
    for word in above:
        if not isinstance(data.get(word), dict):
            data[word] = {}
        data = data[word]
    data[last] = value


def _value_at(data: Json, name: str) -> Json:
    for word in name.split("."):
        data = data.get(word) if isinstance(data, dict) else None
    return data


def test_every_settable_field_is_compared() -> None:
    """Each field that the request schemas name is changed in the copy alone, and found."""
    unseen = {name for several in UNSEEN_FIELDS.values() for name in several}
    instances = list(_instances(*_sides()))
    missed = []
    for thing in THINGS:
        mine = [(index, data) for index, (kind, data) in enumerate(instances) if kind is thing]
        assert mine, f"the sample has no {thing.name}"
        for name in sorted(thing.settable - unseen):
            index = next((index for index, data in mine if _value_at(data, name) is not None), mine[0][0])
            website, acme = _copies()
            data = [one for _, one in _instances(website, acme)][index]
            _set_at(data, name, _other(_value_at(data, name)))
            if _compared(website, acme).is_equal:
                missed.append(f"{thing.name}: {name}")
    assert missed == []


def test_every_request_that_sets_something_belongs_to_a_kind() -> None:
    assert {one for thing in THINGS for one in thing.requests} | UNSEEN.keys() == settable_fields().keys()
    for request, names in UNSEEN_FIELDS.items():
        assert set(names) <= set(settable_fields()[request])


def test_every_document_of_the_catalogue_is_known() -> None:
    """What no table names would be a finding of every drill."""
    for row in CATALOGUE:
        if row.document.startswith(("in the ", "files/")):
            continue
        tables = (
            ({**WHOLE, **LISTS}, {*NESTS, PULL_REQUESTS, COMMITS}, NEVER)
            if row.level == "repository"
            else (WORKSPACE_LISTS, {*WORKSPACE_NESTS, SNIPPETS}, WORKSPACE_NEVER)
        )
        is_known = (
            row.document in tables[0]
            or row.document.partition("/")[0] in tables[1]
            or reason(row.document, tables[2])
            or reason(row.document, ELSEWHERE)
        )
        assert is_known or row.document == "downloads.json", row.document


def test_a_difference_that_nobody_can_set_is_known_by_name() -> None:
    website, acme = _copies()
    website.documents["repository.json"] |= {"uuid": "{other}", "created_on": "2027-01-01", "size": 5}
    website.documents[SCHEDULE][0]["uuid"] = "{other}"
    done = _compared(website, acme)
    assert done.is_equal
    assert done.known["repository", "size", "it follows from what else there is"] == 1
    website.documents["repository.json"]["invented"] = True
    [found] = _compared(website, acme).found
    assert found.field == "invented", "a field that nobody knows is no exception"


def _without(path: str) -> Callable[[Held, Held], None]:
    return lambda website, acme: website.documents.pop(path)


def _moved(website: Held, _: Held) -> None:
    code = website.mirrors["code"]
    refs = {**code.refs.refs, b"refs/tags/v1.0": "0" * 40}
    website.mirrors = {"code": MirrorRefs(Refs(refs, code.refs.head), code.pins)}


def _no_head(website: Held, _: Held) -> None:
    code = website.mirrors["code"]
    website.mirrors = {"code": MirrorRefs(Refs(code.refs.refs, None), code.pins)}


def _other_file(website: Held, _: Held) -> None:
    website.documents["downloads.json"][0]["_content"]["sha256"] = "0" * 64


def _other_snippet(_: Held, acme: Held) -> None:
    acme.documents["snippets/s15.json"]["files"]["deploy.sh"]["sha256"] = "0" * 64


def _twice(website: Held, _: Held) -> None:
    website.documents["settings/webhooks.json"] *= 2


def _no_comment(website: Held, _: Held) -> None:
    del website.documents[HEAD]["comments"][-1]


FAULTS: dict[str, tuple[Callable[[Held, Held], object], str]] = {
    "a pull request is missing": (_without(HEAD), "pull request 3 is missing in the copy"),
    "an environment is missing": (
        lambda website, _: [website.documents.pop(one) for one in website.paths() if "environments/" in one],
        "environment Production is missing in the copy",
    ),
    "a tag is another": (_moved, "code: ref refs/tags/v1.0: hash differs"),
    "the main branch is another": (_no_head, 'HEAD: branch differs: "refs/heads/main", in the copy nothing'),
    "a file is another": (_other_file, "file catalogue.pdf: content differs"),
    "a snippet's file is another": (_other_snippet, "file deploy.sh: content differs"),
    "a webhook was made twice": (_twice, "webhook https://ci.acme.example/hook is in the copy alone"),
    "an answer is missing": (_no_comment, "comment 90 is missing in the copy"),
    "a document is missing": (
        _without("settings/override-settings.json"), "override settings is missing in the copy",
    ),
    "a list could not be read again": (
        _without("settings/variables.json"),
        "settings/variables.json: variable is not in the backup of the copy",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str) -> None:
    change, text = FAULTS[name]
    lines = _found(change)
    assert any(text in line for line in lines), lines


def test_an_lfs_object_that_was_held_must_be_there() -> None:
    website, _ = _copies()
    old, _ = _sides()
    original = replace(old, lfs={"a" * 64: (3, True), "b" * 64: (3, False)})
    result = Comparison()
    compare_repository(Match(old.name, result), original, website)
    assert [one.name for one in result.found] == ["a" * 64]
    assert "b" * 64 in [one.name for one in result.lost]


def _as_restored(pull: Document) -> None:
    """Give a pull request the numbers and texts that a restore gives it."""
    pull["pull_request"] |= {"id": 1, "description": "*Pull request 3 of acme/website, by Bob, 2026-03-08*"}
    for number, one in enumerate(pull["comments"], start=900):
        text = one["content"]["raw"].replace("@{557058:0a1b2c3d}", "Ann")
        one["content"]["raw"] = f"*Comment {one['id']} by Ann, 2026-03-08 09:00 UTC*\n\n{text}"
        one["parent"] = {"id": 900} if one.get("parent") else None
        one["id"] = number
    [task] = pull["tasks"]
    task["content"]["raw"] = f"*Task 7 by Ann, 2026-03-08 09:00 UTC:* {task['content']['raw']}"
    task |= {"id": 950, "comment": {"id": 900}}


def _told(change: Callable[[Document, Document], object]) -> Comparison:
    """The comparison of a restored pull request, after a change of the original and its copy."""
    old, website = deepcopy(_sides()[0]), _copies()[0]
    original: Document = old.documents[HEAD]
    original["comments"][0]["content"]["raw"] = "Ask @{557058:0a1b2c3d} first.\n\nThen 2 merge."
    copy = website.documents["pull-requests/0/1.json"] = deepcopy(original)
    del website.documents[HEAD]
    copy["comments"] = [one for one in copy["comments"] if not one["deleted"]]
    _as_restored(copy)
    change(original, copy)
    result = Comparison()
    compare_repository(Match(old.name, result), old, website)
    return result


def test_texts_come_back_behind_an_attribution() -> None:
    """The copy has other numbers, a beginning that names the original, and names instead of mentions."""
    assert [one.line for one in _told(lambda old, new: None).found] == []

    def shorten(_: Document, new: Document) -> None:
        new["comments"][0]["content"]["raw"] = "*Comment 5 by Ann, 2026-03-08 09:00 UTC*\n\nAsk Ann first."
        new["tasks"][0]["comment"] = {"id": 901}

    assert {one.field for one in _told(shorten).found} == {"content.raw", "comment.id"}


def test_a_deleted_comment_may_come_back_as_a_line() -> None:
    def answered(old: Document, new: Document) -> None:
        [deleted] = [one for one in old["comments"] if one["deleted"]]
        old["comments"][-1]["parent"] = {"id": deleted["id"]}
        line = f"*Comment {deleted['id']} by Ann, 2026-03-08 09:00 UTC; deleted*"
        new["comments"].append({**deepcopy(deleted), "id": 960, "deleted": False, "content": {"raw": line}})
        new["comments"][1]["parent"] = {"id": 960}

    assert [one.line for one in _told(answered).found] == []


def test_what_nobody_can_make_again_is_known() -> None:
    """Drafts, and the resolution of a thread that is not on the code."""

    def change(old: Document, new: Document) -> None:
        draft = {"id": 91, "content": {"raw": "Not yet"}, "pending": True, "deleted": False}
        old["comments"].append(draft)
        for pull in (old, new):
            pull["comments"][0]["inline"] = None
        old["comments"][0]["resolution"] = {"type": "comment_resolution"}

    done = _told(change)
    assert [one.line for one in done.found] == []
    assert ("91", "its author has not published it") in [(one.name, one.why) for one in done.lost]
    assert any(name == "resolved" for _, name, _ in done.known)


def test_who_is_not_at_the_target_is_known() -> None:
    website, _ = _copies()
    website.documents["settings/default-reviewers.json"] = []
    website.documents["settings/branch-restrictions.json"][0]["users"] = []
    for members, equal in ((frozenset({"{somebody}"}), True), (None, False)):
        result = Comparison()
        compare_repository(Match("acme/website", result, Rules(members=members)), _sides()[0], website)
        assert result.is_equal is equal
    assert len(result.found) == 2


def test_a_check_knows_what_a_restore_leaves() -> None:
    """Without a secrets file secured variables are missing, and hooks are inactive."""
    website, _ = _copies()
    variables = website.documents["settings/variables.json"]
    website.documents["settings/variables.json"] = [one for one in variables if not one["secured"]]
    website.documents["settings/webhooks.json"][0]["active"] = False
    for is_check in (True, False):
        result = Comparison()
        match = Match("acme/website", result, Rules(without_secrets=is_check, hooks_inactive=is_check))
        compare_repository(match, _sides()[0], website)
        assert result.is_equal is is_check


def test_what_was_erased_or_never_read_is_no_difference() -> None:
    """As in stores of older versions, which read less."""
    original, (website, acme) = deepcopy(_sides()[0]), _copies()
    home = deepcopy(_sides()[1])
    for path in ("repository.json", HEAD, "settings/variables.json"):
        original.documents[path] = {"erased": {"at": "2026-11-23T06:00:00Z", "reason": "An example"}}
    del website.documents[HEAD]
    del original.documents["settings/override-settings.json"]
    original.documents["settings/branch-restrictions.json"][1]["users"] = [{"type": "user", "uuid": "{ann}"}]
    original.documents["settings/branch-restrictions.json"][0]["users"].append(
        {"type": "user", "erased": True}
    )
    for path in [one for one in home.paths() if one.startswith(("projects/", "snippets/"))]:
        del home.documents[path]
    home.unread = frozenset({"settings", "snippets"})
    result = Comparison()
    compare_repository(Match(original.name, result), original, website)
    compare_workspace(Match(home.name, result), home, acme)
    assert [one.line for one in result.found] == []
    assert ("override settings", "all", "the backup of the original never read it") in result.known
    home.unread = frozenset()
    compare_workspace(Match(home.name, result), home, acme)
    assert not result.is_equal, "what a whole snapshot does not have was not there"
