"""User names and passwords for git, from sign-ins. See `git_logins`."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from mirror.auth.signin import SignIn, SignInTrouble
from mirror.errors import CredentialRefused, MirrorError
from mirror.model import Clock

TRIES = 3


async def git_logins(
    sign_ins: Sequence[SignIn], http: httpx.AsyncClient, clock: Clock
) -> list[tuple[str, str]]:
    """User name and password from each sign-in that gives them.

    Raises CredentialRefused where none does, and TryLater where the sign-in server fails.
    """
    found: list[tuple[str, str]] = []
    refusals: list[MirrorError] = []
    for one in sign_ins:
        try:
            found.append(await _git_login(one, http, clock))
        except (CredentialRefused, SignInTrouble) as error:
            refusals.append(error)
    if refusals and not found:
        raise next((one for one in refusals if isinstance(one, SignInTrouble)), refusals[0])
    return found


async def _git_login(sign_in: SignIn, http: httpx.AsyncClient, clock: Clock) -> tuple[str, str]:
    for attempt in range(1, TRIES):
        try:
            return await sign_in.git_login(http)
        except (CredentialRefused, SignInTrouble):
            await clock.sleep(float(attempt))
    return await sign_in.git_login(http)
