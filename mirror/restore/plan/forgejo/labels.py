"""The labels and milestones that issues and pull requests get.

Forgejo's issues are open or closed. What Bitbucket says of them beyond that, and in which state a pull
request ended, becomes a label such as `state: wontfix` or `pull request: merged`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mirror.bitbucket.readable.parts import objects, string
from mirror.forgejo import endpoints, fields
from mirror.restore.plan.forgejo.target import ForgejoTarget
from mirror.restore.plan.source import Source
from mirror.restore.plan.steps import Call, Find, Made, Stage, Step

PULL_REQUEST, STATE, KIND = "pull request", "state", "kind"
PRIORITY, COMPONENT, VERSION = "priority", "component", "version"
_COLORS = {
    PULL_REQUEST: "#6554c0", STATE: "#6b778c", KIND: "#0065ff", PRIORITY: "#ff8b00", COMPONENT: "#00a3bf",
    VERSION: "#00875a",
}  # fmt: skip
_OF_TRACKER = "issues"
# The documents of the issue tracker: each names several things.
_COMPONENTS, _VERSIONS = "settings/components.json", "settings/versions.json"
_MILESTONES = "settings/milestones.json"


@dataclass
class Labels:
    """The labels and milestones of a repository that anything was given so far."""

    source: Source
    target: ForgejoTarget
    _labels: dict[str, str] = field(default_factory=dict)
    _milestones: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for group, path in ((COMPONENT, _COMPONENTS), (VERSION, _VERSIONS)):
            for one in objects(self.source.document(path)):
                self.label(group, string(one, "name"))
        for one in objects(self.source.document(_MILESTONES)):
            self.milestone(string(one, "name"))

    def label(self, group: str, value: str) -> list[Made]:
        """The id of a label, by which it is given; nothing where there is no value."""
        if not value:
            return []
        name = f"{group}: {' '.join(value.split())}"
        self._labels[name] = group
        return [Made(self._key("label", name), fields.ID)]

    def milestone(self, title: str) -> Made | None:
        """The id of a milestone; None where there is none."""
        if not title:
            return None
        self._milestones[title] = None
        return Made(self._key("milestone", title), fields.ID)

    def steps(self) -> Iterator[Step]:
        """What makes them."""
        after = (self.source.key("repository"),)
        for name, group in sorted(self._labels.items()):
            body = fields.label(name, _COLORS[group], "From Bitbucket")
            yield Step(
                self._key("label", name), _kind_of(group), f"the label {name} of {self.source.title}",
                Call("POST", endpoints.LABELS, self.target.parts, body), Stage.SETTINGS, after,
                Find(endpoints.LABELS, self.target.parts, {fields.NAME: name}),
            )  # fmt: skip
        for title in sorted(self._milestones):
            yield Step(
                self._key("milestone", title), _OF_TRACKER, f"the milestone {title} of {self.source.title}",
                Call("POST", endpoints.MILESTONES, self.target.parts, fields.milestone(title)),
                Stage.SETTINGS, after,
                Find(endpoints.MILESTONES, self.target.parts, {fields.TITLE: title}),
            )  # fmt: skip

    def _key(self, kind: str, name: str) -> str:
        return self.source.key(kind, name)


def _kind_of(group: str) -> str:
    """The kind that a label comes with."""
    return "pull requests" if group == PULL_REQUEST else _OF_TRACKER
