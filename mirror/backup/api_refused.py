"""Backing up what git gives where the API refuses the credential."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mirror.collect import repository as collecting
from mirror.collect.context import Context
from mirror.collect.repository import Wanted
from mirror.errors import CredentialRefused
from mirror.model import Part, Problem


@contextmanager
def without_api(context: Context, wanted: Wanted, unread: dict[str, Part]) -> Iterator[None]:
    """Go on where the API refuses the credential, and note in `unread` the parts that it does not give: git
    decides for itself about the code."""
    try:
        yield
    except CredentialRefused as error:
        unread.update(collecting.parts_refused(context, wanted, error))


def refused_parts(context: Context, unread: Mapping[str, Part]) -> list[str]:
    """The parts of `unread` for which the API refused the credential in this turn."""
    return sorted(context.failures.refused & unread.keys())


def merge_refusals(
    problems: tuple[Problem, ...], unread: Mapping[str, Part], context: Context
) -> tuple[Problem, ...]:
    """`problems` with a single one for all parts that the API does not give because it refuses the
    credential; `accept_missing` does not apply to these."""
    refused = refused_parts(context, unread)
    if not refused:
        return problems
    text = f"only git could be asked, and what the API gives is as it was: {unread[refused[0]].reason}"
    others = (one for one in problems if one.part not in refused)
    return (*others, Problem(CredentialRefused.exit_code, text))
