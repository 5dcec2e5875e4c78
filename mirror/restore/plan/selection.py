"""Chooses single things of a plan, for `--only settings/variables`, `settings/variables/KEY`,
`pull-requests/17` and `issues/3`. What they are made inside of comes along; nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

from mirror.errors import UsageError
from mirror.model import value_at
from mirror.restore.plan.steps import Call, Loss, Made, Push, SendObjects, Step, stand_ins

_PULL_REQUEST = "pull-request"
# The parts whose things have a number, each with what its keys begin with.
_NUMBERED = {"pull-requests": _PULL_REQUEST, "issues": "issue"}
# Where a request has the names of the branches of a pull request.
_BRANCHES = ("source.branch.name", "destination.branch.name", "head", "base")
# How many of those that could be chosen an error names.
_NAMED_MAX = 20
_HEADS = b"refs/heads/"
_Made = Step | Loss


def choose_things(
    made: Sequence[_Made],
    things: Collection[str],
    part_of: Callable[[str], str],
    is_ground: Callable[[_Made], bool],
) -> list[_Made]:
    """Those of `made` that `things` name, each `part/kind`, `part/kind/name` or `pull-requests/<number>`
    (`issues/<number>`), with the steps that they need: whose answers stand in them, and those that make what
    they are inside of (`is_ground`). Of the branches, a pull request takes only its own along.

    What does not come back is chosen, too: so the plan says why. Raises UsageError, which names what could be
    chosen, for one that names nothing.
    """
    chosen: dict[str, _Made] = {}
    for thing in sorted(things):
        found = [one for one in made if _is(one, thing, part_of)]
        if not found:
            raise _nothing(thing, made, part_of)
        chosen |= {one.key: one for one in found}
    steps = {one.key: one for one in made if isinstance(one, Step)}
    todo = [one for one in chosen.values() if isinstance(one, Step)]
    while todo:
        step = todo.pop()
        needed = {one.step for one in stand_ins(step) if isinstance(one, Made)}
        needed |= {key for key in step.after if key in steps and is_ground(steps[key])}
        for key in needed & steps.keys() - chosen.keys():
            # It is made where it is not there; where it is, nothing of it is compared or changed.
            chosen[key] = replace(steps[key], wanted={}, change=None)
            todo.append(steps[key])
    several = [chosen[one.key] for one in made if one.key in chosen]
    return list(_with_own_branches(several, steps))


def thing_named(text: str) -> str:
    """How `choose_things` knows a thing that a person names: part and kind have dashes for underscores."""
    part, kind, *name = text.split("/", 2)
    return "/".join((part.replace("_", "-"), kind.replace("_", "-"), *name))


def _words(one: _Made) -> str:
    """The key without the name of its repository or workspace."""
    return one.key.partition("/")[2]


def _is(one: _Made, thing: str, part_of: Callable[[str], str]) -> bool:
    part, _, name = thing.partition("/")
    if part in _NUMBERED:
        name = f"{_NUMBERED[part]}/{name}"
    elif part_of(one.kind).replace("_", "-") != part:
        return False
    return f"{_words(one)}/".startswith(f"{name}/")


def _nothing(thing: str, made: Sequence[_Made], part_of: Callable[[str], str]) -> UsageError:
    """The error for a thing that is not there, with what could be chosen instead."""
    part, _, name = thing.partition("/")
    kind = name.partition("/")[0]
    steps = [one for one in made if isinstance(one, Step)]
    if part in _NUMBERED:
        of_kind = [f"{part}/{number}" for number in _numbers(steps, _NUMBERED[part])]
        reason = "none of that number can be made anew (of pull requests only open ones can, in Bitbucket)"
        return UsageError(f"--only {thing}: {reason}", hint=_listed(of_kind))
    parts = {part_of(one.kind).replace("_", "-") for one in steps}
    if part not in parts and (near := get_close_matches(part, {*parts, *_NUMBERED}, 1)):
        return UsageError(f"--only {thing}: there is no {part}", hint=f"did you mean {near[0]}/{name}?")
    known = [_words(one) for one in steps if part_of(one.kind).replace("_", "-") == part]
    same_kind = [f"{part}/{words}" for words in known if words.startswith(f"{kind}/")]
    kinds = dict.fromkeys(f"{part}/{words.partition('/')[0]}" for words in known)
    return UsageError(
        f"--only {thing}: the snapshot has nothing of that name", hint=_listed(same_kind or kinds)
    )


def _numbers(steps: Iterable[Step], begin: str) -> list[str]:
    found = (_words(one).split("/") for one in steps)
    numbers = {words[1] for words in found if words[0] == begin and len(words) > 1}
    return sorted(numbers, key=lambda one: (len(one), one))


def _listed(names: Iterable[str]) -> str | None:
    several = list(names)
    if not several:
        return "--dry-run without --only lists what there is"
    more = f" and {len(several) - _NAMED_MAX} more" if len(several) > _NAMED_MAX else ""
    return f"there is {', '.join(several[:_NAMED_MAX])}{more}"


def _with_own_branches(chosen: Sequence[_Made], steps: Mapping[str, Step]) -> Iterator[_Made]:
    """The chosen ones, and for each pull request among them a step that pushes its branches."""
    keys = {one.key for one in chosen}
    for one in chosen:
        name = one.key.partition("/")[0]
        every = steps.get(f"{name}/branches")
        names = _branches_of(one) if isinstance(one, Step) else ()
        if not isinstance(one, Step) or not names or every is None or every.key in keys:
            yield one
            continue
        assert isinstance(every.action, Push)
        refs = {ref: value for ref, value in every.action.refs.items() if ref in names}
        if not refs:
            yield one
            continue
        key, after = f"{one.key}/branches", every.after
        objects = steps.get(f"{name}/lfs-objects")
        if objects is not None:
            send = SendObjects(tuple(sorted(set(refs.values()))))
            label = f"LFS objects of the branches of {one.label}"
            yield replace(objects, key=f"{one.key}/branches-objects", action=send, label=label)
            after = (*after, f"{one.key}/branches-objects")
        label = f"the branches of {one.label}"
        yield replace(
            every, key=key, action=replace(every.action, refs=refs), label=label, after=after, is_passing=True
        )
        yield replace(one, after=(*one.after, key))


def _branches_of(step: Step) -> frozenset[bytes]:
    """The branches that a pull request is made between; none for any other step."""
    words = _words(step).split("/")
    if words[0] != _PULL_REQUEST or len(words) != 2 or not isinstance(step.action, Call):
        return frozenset()
    body = step.action.body
    names = [value_at(body, name) for name in _BRANCHES]
    return frozenset(
        _HEADS + name.encode("utf-8", "surrogateescape") for name in names if isinstance(name, str)
    )
