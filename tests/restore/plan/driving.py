"""A small driver: sends the requests of a plan to a simulator, in order, and knows nothing of what exists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mirror.model import value_at
from mirror.restore.plan.order import in_order
from mirror.restore.plan.steps import Call, Loss, Made, Secret, Step
from tests.simulator.helpers import Asking

Sent = tuple[str, Any]


class Driver:
    """`sent` are the bodies by method and template, `refused` the refusals by the key of their step."""

    def __init__(self, asking: Asking, authorization: str, secrets: Mapping[str, str]) -> None:
        self.sent: list[Sent] = []
        self.refused: dict[str, str] = {}
        self._asking = asking
        self._authorization = authorization
        self._secrets = secrets
        self._answers: dict[str, Any] = {}

    async def carry(self, made: Iterable[Step | Loss]) -> None:
        for step in in_order(made):
            assert isinstance(step.action, Call)
            if not set(step.after) & self.refused.keys():
                await self._send(step, step.action)

    async def _send(self, step: Step, call: Call) -> None:
        parts = {name: self._resolved(value) for name, value in call.parts.items()}
        body = self._resolved(call.body or {})
        more: dict[str, Any] = {}
        if call.files:
            more = {"files": [(one.field, (one.name, one.sha256.encode())) for one in call.files]}
            more["data"] = {
                name: str(value).lower() if value is True else value for name, value in body.items()
            }
        answer = await self._asking.write(
            call.method,
            call.endpoint.path(**parts),
            None if call.files else body,
            self._authorization,
            **more,
        )
        self.sent.append((f"{call.method} {call.endpoint.template}", body))
        if answer.is_success:
            self._answers[step.key] = answer.json() if answer.content else {}
        else:
            self.refused[step.key] = f"{answer.status_code} {answer.text}"

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, Made):
            return value_at(self._answers[value.step], value.field)
        if isinstance(value, Secret):
            return self._secrets[value.key]
        if isinstance(value, dict):
            return {name: self._resolved(one) for name, one in value.items()}
        return [self._resolved(one) for one in value] if isinstance(value, list) else value
