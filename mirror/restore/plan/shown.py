"""A plan, and what does not come back, as lines for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mirror.errors import Result
from mirror.model import JsonObject, name_to_json
from mirror.restore.plan.estimate import Estimate
from mirror.restore.plan.steps import Call, Loss, Plan, Push, PushPages, SendObjects, Step, Why

# How many losses of one kind are named one by one.
NAMED_MAX = 5
# How wide the column of requests is at most: longer ones push their label to the right.
REQUEST_WIDTH = 30


@dataclass(frozen=True)
class Planned(Result):
    """What a restore would do at `target`, and what that costs."""

    target: str
    plan: Plan
    cost: Estimate

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """Every exit code that applies."""
        return tuple(sorted({code for code, _ in self.plan.problems}))

    def to_json(self) -> JsonObject:
        """The JSON that `--json` prints."""
        return {
            "schema": 1,
            "dry_run": True,
            "target": self.target,
            **self.codes_to_json(),
            "requests": self.cost.requests,
            "git_operations": self.cost.git,
            "seconds": self.cost.seconds,
            "steps": [_step_to_json(step) for step in self.plan.steps],
            "losses": losses_to_json(self.plan.losses),
            "problems": [{"code": code, "text": text} for code, text in self.plan.problems],
        }

    def lines(self) -> list[str]:
        """The plan for people, without its headline."""
        calls = [_request_of(step) for step in self.plan.steps]
        width = min(max(map(len, calls), default=0), REQUEST_WIDTH)
        lines = [
            f"  {call:<{width}}  {step.label}" for call, step in zip(calls, self.plan.steps, strict=True)
        ]
        lines += [f"  problem: {text}" for _, text in self.plan.problems]
        lines += loss_lines(self.plan.losses)
        cost = self.cost
        requests, git = _counted(cost.requests, "request"), _counted(cost.git, "git operation")
        within = "" if cost.limit is None else f" within the usual {cost.limit:,} requests an hour,"
        lines.append(f"  where nothing of it is there yet: {requests} and {git},")
        lines.append(f"  about {_duration(cost.seconds)}{within} and the time that the objects take")
        return lines


def losses_to_json(losses: Iterable[Loss]) -> list[JsonObject]:
    """The JSON of what does not come back."""
    return [
        {
            "key": one.key, "kind": one.kind, "label": one.label, "why": str(one.why),
            "detail": one.detail or None,
        }
        for one in losses
    ]  # fmt: skip


def loss_lines(losses: Iterable[Loss], *, is_summed: bool = False) -> list[str]:
    """What does not come back, for people: by reason, and of many of a kind the first ones. With `is_summed`
    a line for each reason says how much it is."""
    by_reason: dict[Why, dict[str, list[Loss]]] = {}
    for one in losses:
        by_reason.setdefault(one.why, {}).setdefault(one.kind, []).append(one)
    secrets = [one for several in by_reason.pop(Why.SECRET, {}).values() for one in several]
    lines = _secret_lines(secrets)
    for why, by_kind in by_reason.items():
        if is_summed:
            kinds = [f"{kind} ({len(several)})" for kind, several in by_kind.items()]
            lines.append(f"  does not come back ({why}): {', '.join(kinds)}")
            continue
        lines.append(f"  does not come back ({why}):")
        for kind, several in by_kind.items():
            lines += [
                f"    {one.label}{': ' if one.detail else ''}{one.detail}" for one in several[:NAMED_MAX]
            ]
            if len(several) > NAMED_MAX:
                lines.append(f"    and {len(several) - NAMED_MAX} more of {kind}")
    return lines


def _secret_lines(secrets: list[Loss]) -> list[str]:
    """The secrets that are lacking, each as the secrets file names it."""
    if not secrets:
        return []
    lines = ["  to be entered again, or read from a --secrets file, which names them so:"]
    return lines + [f"    {one.key}{f' ({one.detail})' if one.detail else ''}" for one in secrets]


def _step_to_json(step: Step) -> JsonObject:
    action = step.action
    refs = sorted(name_to_json(name) for name in action.refs) if isinstance(action, Push) else None
    return {
        "key": step.key, "kind": step.kind, "label": step.label, "stage": step.stage.name.lower(),
        "after": list(step.after), "request": _request_of(step).strip(), "refs": refs,
        "natural_key": None if step.find is None else {str(k): str(v) for k, v in step.find.key.items()},
    }  # fmt: skip


def _request_of(step: Step) -> str:
    match step.action:
        case Call(method=method, endpoint=endpoint):
            return f"{method:<4} {endpoint.name}"
        case SendObjects():
            return "LFS  objects"
        case Push() | PushPages():
            return "git  push"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} seconds"
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} minutes"
