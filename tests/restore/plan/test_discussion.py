"""Comments and tasks are planned in order, each below a line that says whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mirror.bitbucket import endpoints
from mirror.restore.plan.discussion import Discussion, Where
from mirror.restore.plan.steps import Call, Excuse, Find, Loss, Made, Step, Why
from tests.restore.plan.given import ANN, BOB, body, comment, losses, steps

PARTS: dict[str, Any] = {"workspace": "spare", "repository": "site", "id": Made("p/12", "id")}
WHERE = Where(
    "pull request comments", "pull request 12", "p/12", PARTS, endpoints.PULL_REQUEST_COMMENTS,
    endpoints.PULL_REQUEST_COMMENT, ("p/12",),
)  # fmt: skip
INLINE = {"path": "a.py", "from": None, "to": 3, "start_from": None, "start_to": 1}


def _of(*comments: dict[str, Any], tasks: tuple[dict[str, Any], ...] = ()) -> list[Step | Loss]:
    document = {"comments": list(comments), "tasks": list(tasks), "also": [ANN, BOB]}
    return list(Discussion.of(WHERE, document).steps())


def _texts(made: list[Step | Loss]) -> Iterator[str]:
    return (body(one)["content"]["raw"] for one in made if isinstance(one, Step))


def test_a_comment_says_whose_it_was_and_is_found_by_that() -> None:
    [made] = _of(comment(5, f"Ask @{{{BOB['account_id']}}}."))
    assert isinstance(made, Step) and made.key == "p/12/comment/5" and made.after == ("p/12",)
    text = "*Comment 5 by Ann Archer, 2026-03-02 10:05 UTC*\n\nAsk Bob Baker."
    assert body(made) == {"content": {"raw": text}} and made.wanted == {"content.raw": text}
    assert made.find == Find(
        endpoints.PULL_REQUEST_COMMENTS, PARTS, marker=("content.raw", "*Comment 5 ")
    ) and text.startswith("*Comment 5 ")
    single = {**PARTS, "comment": Made(made.key, "id")}
    assert made.change == Call("PUT", endpoints.PULL_REQUEST_COMMENT, single, body(made))


def test_replies_follow_what_they_reply_to() -> None:
    made = _of(comment(9), comment(7, parent={"id": 9}), comment(8, parent={"id": 7}))
    assert [one.key for one in made] == [f"p/12/comment/{one}" for one in (9, 7, 8)]
    first, second, third = steps(made).values()
    assert body(second)["parent"] == {"id": Made("p/12/comment/9", "id")}
    assert body(third)["parent"] == {"id": Made("p/12/comment/7", "id")}
    assert (first.after, second.after) == (("p/12",), ("p/12", "p/12/comment/9"))


def test_a_reply_to_what_is_not_there_stands_alone_and_says_so() -> None:
    [lost, one, other] = _of(
        comment(1, parent={"id": 77}), comment(2, parent={"id": 3}), comment(3, parent={"id": 2})
    )
    assert isinstance(lost, Step) and "parent" not in body(lost)
    assert "in reply to comment 77, which is not here" in next(_texts([lost]))
    # Two that reply to each other: one of them begins.
    assert ["parent" in body(step) for step in steps([one, other]).values()] == [False, True]


def test_places_in_the_code_stay_where_the_code_has_them() -> None:
    now, then, of_file = _of(
        comment(1, inline=INLINE), comment(2, inline={**INLINE, "outdated": True}),
        comment(3, inline={"path": "b`.py", "from": True, "to": 0}),
    )  # fmt: skip
    assert isinstance(now, Step) and isinstance(then, Step) and isinstance(of_file, Step)
    assert body(now)["inline"] == {"path": "a.py", "to": 3, "start_to": 1}
    assert now.retries[0].field == "inline" and now.retries[0].status == 400
    assert next(_texts([now])).startswith(
        "*Comment 1 by Ann Archer, 2026-03-02 10:01 UTC, on `a.py`, line 1 to 3*"
    )
    assert "inline" not in body(then) and not then.retries
    assert ", on `a.py`, line 1 to 3 (since changed)*" in next(_texts([then]))
    assert body(of_file)["inline"] == {"path": "b`.py"} and "on ``b`.py``*" in next(_texts([of_file]))


def test_a_reply_has_the_place_of_its_thread() -> None:
    reply = steps(_of(comment(1, inline=INLINE), comment(2, parent={"id": 1}, inline=INLINE)))[
        "p/12/comment/2"
    ]
    assert "inline" not in body(reply)


def test_a_resolved_thread_is_resolved_again() -> None:
    done = {"type": "comment_resolution", "user": BOB, "created_on": "2026-03-03T11:00:00+00:00"}
    made = steps(_of(comment(1, inline=INLINE, resolution=done), comment(2, resolution=done)))
    assert list(made) == ["p/12/comment/1", "p/12/comment/1/resolution", "p/12/comment/2"]
    step = made["p/12/comment/1/resolution"]
    single = {**PARTS, "comment": Made("p/12/comment/1", "id")}
    assert step.action == Call("POST", endpoints.RESOLUTION, single) and step.after == ("p/12/comment/1",)
    assert step.find is not None and step.find.key == {"resolution.type": "comment_resolution"}
    assert step.excuses[0] == Excuse(409)
    # The other is not on the code: only its text can say it.
    assert "; resolved by Bob Baker, 2026-03-03 11:00 UTC*" in body(made["p/12/comment/2"])["content"]["raw"]


def test_a_deleted_comment_holds_the_place_of_its_replies() -> None:
    gone: dict[str, Any] = {"deleted": True, "content": {"raw": ""}}
    made = _of(
        comment(1, **gone), comment(2, parent={"id": 1}), comment(3, **gone),
        comment(4, parent={"id": 3}, **gone),
    )  # fmt: skip
    assert list(_texts(made)) == [
        "*Comment 1 by Ann Archer, 2026-03-02 10:01 UTC; deleted*",
        "*Comment 2 by Ann Archer, 2026-03-02 10:02 UTC*\n\nHm.",
    ]


def test_drafts_are_left_out_and_told() -> None:
    made = _of(comment(1, pending=True), comment(2), tasks=({"id": 3, "pending": True},))
    assert list(steps(made)) == ["p/12/comment/2"]
    told = losses(made)["p/12/drafts"]
    assert told.why is Why.UNPUBLISHED and told.label == "2 drafts of pull request 12"


def test_tasks_belong_to_their_comments_and_keep_their_state() -> None:
    task = {
        "id": 4, "content": {"raw": "Explain\n"}, "creator": BOB, "created_on": "2026-03-02T10:30:00+00:00",
        "state": "RESOLVED", "comment": {"id": 1},
    }  # fmt: skip
    made = steps(
        _of(comment(1), tasks=(task, {**task, "id": 5, "state": "UNRESOLVED", "comment": {"id": 9}}))
    )
    first, state, second = (made[f"p/12/task/{one}"] for one in ("4", "4/resolved", "5"))
    text = "*Task 4 by Bob Baker, 2026-03-02 10:30 UTC:* Explain"
    assert body(first) == {"content": {"raw": text}, "comment": {"id": Made("p/12/comment/1", "id")}}
    assert first.after == ("p/12", "p/12/comment/1") and first.wanted == {"content.raw": text}
    assert first.find is not None and text.startswith(first.find.marker[1] if first.find.marker else "-")
    single = {**PARTS, "task": Made("p/12/task/4", "id")}
    assert first.change == Call("PUT", endpoints.PULL_REQUEST_TASK, single, {"content": {"raw": text}})
    assert state.action == Call("PUT", endpoints.PULL_REQUEST_TASK, single, {"state": "RESOLVED"})
    assert state.find is not None and state.find.key == {"state": "RESOLVED"}
    assert "comment" not in body(second) and "p/12/task/5/resolved" not in made


def test_hostile_documents_do_no_harm() -> None:
    odd: dict[str, Any] = {
        "id": 1,
        "content": None,
        "user": None,
        "parent": 7,
        "inline": ["x"],
        "resolution": 1,
    }
    [made] = _of(odd)
    assert isinstance(made, Step)
    assert body(made) == {"content": {"raw": "*Comment 1 by a deleted account, at an unknown time*"}}
    [long] = _of(comment(2, "x" * 40_000, inline=INLINE))
    assert isinstance(long, Step) and [one.field for one in long.retries] == ["content.raw", "inline"]
