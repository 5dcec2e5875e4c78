"""How settings are planned: as the rows say, without whom and what is not at the target."""

from __future__ import annotations

from typing import Any

from mirror.collect.catalogue import row_of_kind
from mirror.model import Json
from mirror.restore.plan.settings import steps_of_settings
from mirror.restore.plan.source import Options, Target
from mirror.restore.plan.steps import Call, Loss, Stage, Step, Why
from tests.restore.plan.given import given, losses, steps

ANN, BOB = "{0f9c4a2e-1111-4222-8333-444455556666}", "{aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee}"
TARGET = Target("spare", "site")
KEY = "ssh-ed25519 AAAA"


def planned(
    kind: str, *several: Json, target: Target = TARGET, options: Options | None = None
) -> list[Step | Loss]:
    """What is planned of a repository that has these settings of a kind alone."""
    path = row_of_kind(kind).document
    return list(steps_of_settings(given({path: list(several)}), target, options or Options()))


def only(made: list[Step | Loss]) -> Step:
    """The one step."""
    [found] = steps(made).values()
    return found


def sent(step: Step) -> Any:
    """The body that makes a thing."""
    assert isinstance(step.action, Call)
    return step.action.body


def user(uuid: str, name: str = "Ann Archer") -> dict[str, str]:
    return {"type": "user", "uuid": uuid, "display_name": name}


# -- people


def test_whoever_is_not_at_the_target_is_left_out_and_told() -> None:
    target = Target("spare", "site", frozenset({ANN}))
    made = planned("default reviewers", user(ANN), user(BOB, "Bob Baker"), {"uuid": None}, target=target)
    step = only(made)
    assert isinstance(step.action, Call) and step.action.parts["who"] == ANN and step.stage is Stage.SETTINGS
    told = losses(made)
    assert {one.why for one in told.values()} == {Why.PERSON} and len(told) == 2
    assert "Bob Baker" in told[f"website/default-reviewers/{BOB}"].label


def test_people_of_then_are_the_people_of_now() -> None:
    options = Options(people={ANN: BOB})
    target = Target("spare", "site", frozenset({BOB}))
    granted = {"permission": "write", "user": user(ANN.upper())}
    step = only(planned("users' permissions", granted, target=target, options=options))
    assert isinstance(step.action, Call) and step.action.parts["who"] == BOB
    assert step.find is not None and step.find.key == {"user.uuid": BOB}
    assert sent(step) == {"permission": "write"} and step.needs_user
    # The key of a step does not depend on whom it is for now.
    assert step.key == f"website/users-permissions/{ANN.upper()}"


def test_without_the_list_of_members_the_server_decides() -> None:
    step = only(planned("default reviewers", user(BOB)))
    assert {one.why for one in step.excuses} == {Why.PERSON}
    group = {"permission": "read", "group": {"slug": "devs", "name": "Developers"}}
    step = only(planned("groups' permissions", group))
    assert [(one.status, one.text, one.why) for one in step.excuses] == [(404, "group", Why.PERSON)]
