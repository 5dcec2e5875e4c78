"""The field names of Bitbucket's documents: no other module knows them.

Each function accepts any document: an absent or malformed value is None, or BadAnswer where it is needed.
Deleted accounts, forks and branches leave nulls in surprising places.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from mirror.bitbucket.failures import BadAnswer, plain
from mirror.model import Json, JsonObject, Repository, Workspace, is_uuid

_SLUG = re.compile(r"[A-Za-z0-9._~-]{1,100}")
_DONE = "COMPLETED"
# Server values are compared with lists of what is known only where the unknown is the careful side.
_CLOSED = frozenset({"MERGED", "DECLINED", "SUPERSEDED"})
_NOT_ENDED = frozenset({"PENDING", "READY", "IN_PROGRESS"})
_NEVER_RUN = frozenset({"NOT_RUN", "SKIPPED"})
_PASSED = frozenset({"SUCCESSFUL", "PASSED", "SKIPPED"})
# No thing is numbered higher; a larger one would not do as a file's name.
_NUMBER_MAX = 2**53


def _get(data: Json, *names: str) -> Any:
    for name in names:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def _text(data: Json, *names: str) -> str | None:
    value = _get(data, *names)
    return value if isinstance(value, str) else None


def _number(data: Json, *names: str) -> int | None:
    value = _get(data, *names)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def is_slug(text: object) -> bool:
    """Whether `text` can be the slug of a workspace or repository (and is safe in a path)."""
    return isinstance(text, str) and _SLUG.fullmatch(text) is not None and text.strip(".") != ""


def _uuid(data: Json, what: str) -> str:
    value = _get(data, "uuid")
    if not is_uuid(value):
        raise BadAnswer(f"a {what} came without a proper uuid ({plain(value)})")
    return str(value).lower()


def workspace(data: Json) -> Workspace:
    """A workspace, from its own document or from an entry of the credential's list."""
    inner = _get(data, "workspace")
    document = inner if isinstance(inner, dict) else data
    slug = _text(document, "slug")
    if not is_slug(slug):
        raise BadAnswer(f"a workspace came without a proper slug ({plain(slug)})")
    assert slug is not None
    profile = document if isinstance(document, dict) else {}
    return Workspace(_uuid(document, "workspace"), slug, _text(document, "name") or slug, profile)


def repository(data: Json, *, workspace: str) -> Repository:
    """A repository of `workspace`.

    The name is taken from `full_name`, because there a moved repository has its new name.
    """
    full_name = _text(data, "full_name") or ""
    owner, _, name = full_name.partition("/")
    slug = _text(data, "slug") or name
    owner = owner or workspace
    if not is_slug(slug) or not is_slug(owner):
        raise BadAnswer(f"a repository came without a proper name ({plain(full_name or slug)})")
    return Repository(
        _uuid(data, "repository"),
        owner,
        slug,
        _text(data, "project", "key"),
        data if isinstance(data, dict) else {},
    )


def identity(data: Json) -> str | None:
    """What identifies an entry of a list: uuid, id, hash, key or name; None where it has none."""
    for name in ("uuid", "id", "hash", "key", "name"):
        value = _get(data, name)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return f"{name}:{value}"
    return None


def number_of(data: Json, what: str) -> int:
    """The number of a pull request or issue. Raises BadAnswer where it has none."""
    value = _number(data, "id")
    if value is None or not 1 <= value <= _NUMBER_MAX:
        raise BadAnswer(f"a {what} came without a proper id ({plain(_get(data, 'id'))})")
    return value


def pull_request_head(data: Json) -> str | None:
    """The hash of a pull request's head, with as many digits as given; None where the fork is gone."""
    value = _text(data, "source", "commit", "hash")
    return value if value is not None and re.fullmatch(r"[0-9a-f]{12,40}", value) else None


def has_same_head(one: Json, other: Json) -> bool:
    """Whether two states of a pull request have the same head, with any number of digits."""
    first, second = pull_request_head(one), pull_request_head(other)
    if first is None or second is None:
        return first is second
    return first.startswith(second) or second.startswith(first)


def fork(data: Json, repository: Repository) -> str | None:
    """The full name of the source repository of a pull request; None where it is `repository` itself, or is
    gone."""
    name, uuid = _text(data, "source", "repository", "full_name"), _get(data, "source", "repository", "uuid")
    owner, _, slug = (name or "").partition("/")
    if not is_slug(owner) or not is_slug(slug):
        return None
    if is_uuid(uuid):
        return None if str(uuid).lower() == repository.uuid.lower() else name
    return None if str(name).lower() == repository.full_name.lower() else name


def commit_hash(data: Json) -> str | None:
    """The hash of a commit, as given."""
    return _text(data, "hash")


def updated_on(data: Json) -> str | None:
    """The time of the last update, as given."""
    return _text(data, "updated_on")


def comment_count(data: Json) -> int | None:
    """How many comments a pull request says it has; None where it does not say."""
    return _number(data, "comment_count")


def task_count(data: Json) -> int | None:
    """How many tasks a pull request says it has; None where it does not say."""
    return _number(data, "task_count")


def is_not_removed(data: Json) -> bool:
    """Whether a comment was not deleted; a deleted one remains as a tombstone."""
    return _get(data, "deleted") is not True


def created_on(data: Json) -> str | None:
    """The time of creation, as given."""
    return _text(data, "created_on")


def project_key(data: Json) -> str:
    """The key of a project. Raises BadAnswer where it has none that is safe in a path."""
    key = _text(data, "key")
    if key is None or re.fullmatch(r"[A-Za-z0-9_-]{1,100}", key) is None:
        raise BadAnswer(f"a project came without a proper key ({plain(key)})")
    return key


def snippet_id(data: Json) -> str:
    """The id of a snippet, a word. Raises BadAnswer where it has none."""
    value = _get(data, "id")
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) is None:
        raise BadAnswer(f"a snippet came without a proper id ({plain(value)})")
    return text


# Both forms of the address of a snippet's file: the document's paths have one, its examples the other.
_SNIPPET_FILE = re.compile(r".*/(?:([0-9a-f]{7,40})/files|files/([0-9a-f]{7,40}))/[^/]+")


def snippet_files(data: Json) -> dict[str, str | None]:
    """The files of a snippet: name to the revision in its URL, None where there is none. Raises BadAnswer
    where the snippet does not list its files."""
    files = _get(data, "files")
    if not isinstance(files, Mapping):
        raise BadAnswer("a snippet came without its files")
    found: dict[str, str | None] = {}
    for name, file in files.items():
        address = _SNIPPET_FILE.fullmatch(_text(file, "links", "self", "href") or "")
        found[str(name)] = (address[1] or address[2]) if address is not None else None
    return found


def clone_addresses(data: Json) -> list[str]:
    """The clone URLs over HTTP in a document."""
    links = _get(data, "links", "clone")
    found = [_text(one, "href") for one in links] if isinstance(links, list) else []
    return [href for href in found if href is not None and href.lower().startswith(("https:", "http:"))]


def is_same_file(one: Json, other: Json) -> bool:
    """Whether two entries of a file list have the same content. The name alone does not prove it: an upload
    replaces the file of the same name."""
    is_known = any(_get(one, name) is not None for name in ("size", "created_on"))
    return is_known and all(_get(one, name) == _get(other, name) for name in ("name", "size", "created_on"))


def file_size(data: Json) -> int | None:
    """The reported size of a listed file in bytes; None where it is not given."""
    return _number(data, "size")


def starts_with(commit: Json, digits: str | None) -> bool:
    """Whether a commit's hash begins with these digits."""
    value = _text(commit, "hash")
    return value is not None and digits is not None and value.startswith(digits)


def file_name(data: Json) -> str:
    """The name of a download or an attachment. Raises BadAnswer where it has none."""
    name = _text(data, "name")
    if not name:
        raise BadAnswer("a file came without a name")
    return name


def main_branch(data: Json) -> str | None:
    """The name of a repository's main branch; None where it has none (it is empty)."""
    return _text(data, "mainbranch", "name")


def destination(data: Json) -> str | None:
    """The hash of the destination of a pull request, with as many digits as given."""
    value = _text(data, "destination", "commit", "hash")
    return value if value is not None and re.fullmatch(r"[0-9a-f]{12,40}", value) else None


@dataclass(frozen=True)
class Activity:
    """One entry of the activity of pull requests: the pull request, the time, and a key that identifies it.

    `comment` is the id of the comment that it is about; `decides` marks approvals and the like, which may
    leave the update time of the pull request unchanged. `kept` is what the document stores: of a comment only
    the id, because the comment itself is stored with the comments.
    """

    number: int | None
    when: str
    key: str
    comment: int | None
    decides: bool
    kept: JsonObject


def activity(entry: JsonObject) -> Activity:
    """Read an entry. It has no id of its own; unknown content is ignored."""
    comment = _number(entry, "comment", "id")
    if comment is not None:
        when = _text(entry, "comment", "created_on") or ""
        about = {name: entry["comment"][name] for name in ("id", "created_on") if name in entry["comment"]}
        kept = {"comment": about}
        key = f"comment {comment}"
        return Activity(_number(entry, "pull_request", "id"), when, key, comment, False, kept)
    kept = {name: stable(value) for name, value in entry.items() if name != "pull_request"}
    when, parts = "", []
    for name in sorted(kept):
        inner = kept[name]
        moment = _text(inner, "date") or _text(inner, "created_on") or ""
        who = _text(inner, "user", "uuid") or _text(inner, "author", "uuid") or ""
        parts.append(f"{name} {moment} {who}")
        when = max(when, moment)
    return Activity(
        _number(entry, "pull_request", "id"), when, "; ".join(parts), None, "update" not in kept, kept
    )


def ordered(values: Sequence[JsonObject]) -> list[Json]:
    """Entries in a fixed order, in whichever order the server lists them."""
    return [stable(value) for value in sorted(values, key=_sort_key)]


def with_held(held: Json, values: Sequence[JsonObject]) -> list[Json]:
    """A list with lost entries, completed by the stored entries that may be the lost ones."""
    known = {identity(value) for value in values} - {None}
    several = held if isinstance(held, list) else []
    kept = [one for one in several if isinstance(one, dict) and identity(one) not in known]
    return ordered([*values, *(one for one in kept if stable(one) not in [stable(v) for v in values])])


def _sort_key(value: JsonObject) -> tuple[int, str]:
    number = _number(value, "id")
    if number is not None:
        return number, ""
    for names in (("uuid",), ("key",), ("name",), ("user", "uuid"), ("group", "slug"), ("full_name",)):
        found = _text(value, *names)
        if found is not None:
            more = _text(value, "repository", "uuid") if names[0] == "user" else None
            return 0, f"{found} {more or ''}"
    return 0, json.dumps(value, sort_keys=True, default=str)


def is_open(data: Json) -> bool:
    """Whether a pull request is open, or in an unknown state."""
    return _text(data, "state") not in _CLOSED


def has_participants(data: Json) -> bool:
    """Whether a pull request document has its participants (lists may omit them)."""
    return isinstance(_get(data, "participants"), list)


def participants(data: Json) -> list[Json] | None:
    """The participants of a commit in a fixed order; None where they are not given."""
    several = _get(data, "participants")
    return ordered(several) if isinstance(several, list) and all(map(_is_object, several)) else None


def _is_object(value: Json) -> bool:
    return isinstance(value, dict)


def pipeline_number(data: Json) -> int:
    """A pipeline's number. Raises BadAnswer where it has none."""
    value = _number(data, "build_number")
    if value is None or value > _NUMBER_MAX:
        raise BadAnswer(f"a pipeline came without a proper number ({plain(_get(data, 'build_number'))})")
    return value


def uuid_of(data: Json, what: str) -> str:
    """The uuid of a pipeline or step, with its braces. Raises BadAnswer where it has none."""
    return _uuid(data, what)


def has_uuid(data: Json) -> bool:
    """Whether a thing has a proper uuid."""
    return is_uuid(_get(data, "uuid"))


def is_done(data: Json) -> bool:
    """Whether a pipeline or a step is finished."""
    return _text(data, "state", "name") == _DONE


def pipeline_ended(data: Json) -> str | None:
    """When a pipeline ended; where that is not given, when it was created."""
    return _text(data, "completed_on") or _text(data, "created_on")


def pipelines_are_off(data: Json) -> bool:
    """Whether the pipelines configuration says that they are disabled."""
    return _get(data, "enabled") is False


def may_have_log(step: Json, *, has_ended: bool) -> bool:
    """Whether a step may have a log. Only one that is known not to have run (yet) has none; where its
    pipeline `has_ended`, a step in progress may have one."""
    if _text(step, "state", "result", "name") in _NEVER_RUN:
        return False
    state = _text(step, "state", "name")
    return state not in _NOT_ENDED or (has_ended and state == "IN_PROGRESS")


def services_of(step: Json) -> list[str]:
    """The uuids of the service containers of a step; each has a log."""
    several = _get(step, "services")
    found = [_text(one, "uuid") for one in several] if isinstance(several, list) else []
    return [uuid for uuid in found if uuid is not None and is_uuid(uuid)]


def is_in_progress(data: Json) -> bool:
    """Whether a step is in progress."""
    return _text(data, "state", "name") == "IN_PROGRESS"


def may_have_reasons(data: Json) -> bool:
    """Whether a test case may have failed, so that there may be reasons."""
    return _text(data, "status") not in _PASSED


def stable(data: Json) -> Json:
    """The document as it is stored: without values that change although nothing changed.

    The user name in clone links and the expiring query in links to pictures are removed. Everything else is
    kept, known or not.
    """
    if isinstance(data, dict):
        return {name: _stable_link(name, value) for name, value in data.items()}
    if isinstance(data, list):
        return [stable(item) for item in data]
    return data


def _stable_link(name: str, value: Json) -> Json:
    if name == "avatar" and isinstance(value, str):
        return _without_query(value)
    if name == "avatar" and isinstance(value, dict):
        return {key: _without_query(item) if key == "href" else stable(item) for key, item in value.items()}
    if name == "clone" and isinstance(value, list):
        return [
            {key: _without_user(item) if key == "href" else stable(item) for key, item in link.items()}
            if isinstance(link, dict)
            else stable(link)
            for link in value
        ]
    return stable(value)


def _without_query(link: Json) -> Json:
    return link.partition("?")[0] if isinstance(link, str) else link


def _without_user(link: Json) -> Json:
    if not isinstance(link, str) or not link.startswith(("http://", "https://")):
        return link
    try:
        parts = urlsplit(link)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    except ValueError:
        return link


# What distinguishes two items of one kind; the first that both have decides.
_IDENTITIES = ("uuid", "account_id", "id", "hash", "type", "key", "slug", "name")


def merged(old: Json, new: Json) -> Json:
    """`new` over `old`: a thinner answer never removes a field, and a hash cut short never
    replaces the full one.

    Where the two are of different things (another commit, another person, another state), `new`
    stands alone: fields of one are not to be read as the other's.
    """
    if not isinstance(old, dict) or not isinstance(new, dict) or _are_different(old, new):
        return new
    result = dict(old)
    for name, value in new.items():
        before = old.get(name)
        cut = (name == "hash" and _is_cut(value, before)) or (name == "href" and _is_cut_link(value, before))
        result[name] = before if cut else merged(before, value)
    return result


def _is_cut(text: Json, whole: Json) -> bool:
    return isinstance(text, str) and isinstance(whole, str) and len(text) >= 7 and whole.startswith(text)


def _is_cut_link(text: Json, whole: Json) -> bool:
    """Whether two links to a commit differ only in how many digits of its hash they have."""
    if not isinstance(text, str) or not isinstance(whole, str) or not whole.startswith(text):
        return False
    return (
        re.search(r"/[0-9a-f]{7,39}$", text) is not None and re.search(r"/[0-9a-f]{40}$", whole) is not None
    )


def _are_different(old: JsonObject, new: JsonObject) -> bool:
    for name in _IDENTITIES:
        one, other = old.get(name), new.get(name)
        if isinstance(one, str | int) and isinstance(other, str | int) and one != other:
            return not (name == "hash" and (_is_cut(other, one) or _is_cut(one, other)))
        if name in ("uuid", "account_id", "id", "hash") and one is not None and one == other:
            return False
    return False


def page_length(data: JsonObject) -> int | None:
    """How many entries a list says a full page of it has; None where it does not say."""
    length = _number(data, "pagelen")
    return length if length else None


def list_size(data: JsonObject) -> int | None:
    """How many entries a list says it has in all; None where it does not say."""
    return _number(data, "size")
