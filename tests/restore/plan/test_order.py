"""A plan is made of a store alone: every step once, none before what it waits for."""

from __future__ import annotations

import pytest

from mirror.errors import UsageError
from mirror.restore.plan.order import in_order, make_plan
from mirror.restore.plan.source import Options, Source, Target
from mirror.restore.plan.steps import Call, Plan, Push, Stage, Step, Why


def _planned(acme: Source | None, sources: dict[str, Source], options: Options | None = None) -> Plan:
    several = [(source, Target("spare", slug)) for slug, source in sources.items()]
    return make_plan(acme, several, Target("spare"), options or Options())


def _step(plan: Plan, key: str) -> Step:
    [found] = [step for step in plan.steps if step.key == key]
    return found


def test_a_workspace_is_planned_in_order(acme: Source, sources: dict[str, Source]) -> None:
    plan = _planned(acme, sources)
    assert [step.stage for step in plan.steps] == sorted(step.stage for step in plan.steps)
    places = {step.key: number for number, step in enumerate(plan.steps)}
    for step in plan.steps:
        assert all(places.get(one, -1) < places[step.key] for one in step.after), step.key
    assert {key for key in places if key.endswith("/repository")} == {f"{one}/repository" for one in sources}
    projects = [step for step in plan.steps if step.stage is Stage.PROJECT]
    assert {step.key for step in projects} == {f"~workspace/project/{one}" for one in ("WEB", "CORE", "DOCS")}
    assert _planned(acme, sources) == plan


def test_a_repository_is_made_with_what_it_had(sources: dict[str, Source]) -> None:
    website = sources["website"]
    plan = _planned(None, {"website": website})
    assert website.repository is not None and website.workspace == "acme"
    made = _step(plan, "website/repository").action
    assert isinstance(made, Call) and isinstance(made.body, dict) and made.method == "POST"
    profile = website.repository.profile
    assert made.body["description"] == profile["description"] and made.body["project"] == {"key": "WEB"}
    pushed = _step(plan, "website/branches").action
    assert isinstance(pushed, Push) and set(pushed.refs) <= set(website.refs)
    assert all(name.startswith((b"refs/heads/", b"refs/tags/")) for name in pushed.refs)
    main = _step(plan, "website/main-branch").action
    assert isinstance(main, Call) and main.body == {"mainbranch": {"name": "main"}}
    # Only its own project, not all.
    assert [step.key for step in plan.steps if step.stage is Stage.PROJECT] == ["~workspace/project/WEB"]


def test_a_new_name_is_taken(sources: dict[str, Source]) -> None:
    plan = make_plan(
        None, [(sources["website"], Target("spare", "new", is_only=True))], Target("spare"), Options()
    )
    step = _step(plan, "website/repository")
    assert isinstance(step.action, Call) and isinstance(step.action.body, dict)
    assert step.action.parts == {"workspace": "spare", "repository": "new"}
    assert step.action.body["name"] == "new"


def test_refs_that_are_left_out_are_told(sources: dict[str, Source]) -> None:
    plan = _planned(None, {"website": sources["website"]}, Options(refs=("refs/heads/main",)))
    pushed = _step(plan, "website/branches").action
    assert isinstance(pushed, Push) and set(pushed.refs) == {b"refs/heads/main"}
    [told] = [loss for loss in plan.losses if loss.key == "website/refs-left-out"]
    assert told.why is Why.CHOSEN
    with pytest.raises(UsageError, match="no ref of such a name"):
        _planned(None, sources, Options(refs=("refs/heads/none",)))


def test_parts_are_chosen(acme: Source, sources: dict[str, Source]) -> None:
    plan = _planned(acme, sources, Options(only=frozenset({"settings"})))
    assert "website/repository" in {step.key for step in plan.steps}
    assert not [step for step in plan.steps if isinstance(step.action, Push)]


def test_a_key_is_planned_once(sources: dict[str, Source]) -> None:
    step = _planned(None, {"website": sources["website"]}).steps[0]
    with pytest.raises(ValueError, match="two steps have the key"):
        in_order([step, step])
