"""Backing up what git gives where the API refuses the credential."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mirror.collect import repository as collecting
from mirror.collect.ports import Work
from mirror.collect.repository import Wanted
from mirror.errors import CredentialRefused
from mirror.model import Part, Problem


@contextmanager
def without_the_api(work: Work, wanted: Wanted, unread: dict[str, Part]) -> Iterator[None]:
    """Go on where the API refuses the credential, and note in `unread` what it does not give: git
    decides for itself about the code."""
    try:
        yield
    except CredentialRefused as error:
        unread.update(collecting.refused(work, wanted, error))


def api_refused(work: Work, unread: Mapping[str, Part]) -> bool:
    """Whether the API refused the credential in this turn."""
    return bool(work.refused & unread.keys())


def told_once(problems: tuple[Problem, ...], unread: Mapping[str, Part], work: Work) -> tuple[Problem, ...]:
    """`problems` with a single one for all parts that the API does not give because it refuses the
    credential; `accept_missing` is not about these."""
    refused = sorted(work.refused & unread.keys())
    if not refused:
        return problems
    text = f"only git could be asked, and what the API gives is as it was: {unread[refused[0]].reason}"
    others = (one for one in problems if one.part not in refused)
    return (*others, Problem(CredentialRefused.exit_code, text))
