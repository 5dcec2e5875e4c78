"""What is not certain about Bitbucket, as switches, so that a client can be tried both ways."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Switches:
    """Each field is one uncertain fact; the defaults are what is thought likeliest.

    `inverted` has each the other way round, `seeded` a mix that a number picks.
    """

    # Pull requests and their activity take 50 to a page (the published document says 100).
    pull_request_page_cap_50: bool = True
    # Rate-limit headers come with answers.
    rate_limit_headers: bool = True
    # A refusal for the rate limit says Retry-After, in seconds.
    retry_after: bool = False
    # Where it does, it is an HTTP date.
    retry_after_is_a_date: bool = False
    # The list of pipelines has `next`.
    pipelines_have_next: bool = False
    # The pipelines list is found only with a slash at its end.
    pipelines_need_slash: bool = True
    # What a credential may not see is 404, not 403 with the missing scope.
    denied_is_404: bool = False
    # `fields=+values.participants` works on the list of pull requests.
    participants_in_lists: bool = True
    # Hashes in the list of pull requests have 12 digits.
    short_hashes: bool = True
    # `sort` with several states is a server error.
    sort_with_states_fails: bool = True
    # The issue tracker is there.
    issue_tracker: bool = False
    # What moves a pull request's `updated_on`, besides its own changes.
    comments_move_updated_on: bool = True
    approvals_move_updated_on: bool = False
    tasks_move_updated_on: bool = False
    # A user's API token is accepted as Bearer, too.
    api_token_as_bearer: bool = False
    # Access tokens may list the workspaces of the caller (and find none) instead of being refused.
    access_tokens_list_workspaces: bool = False
    # Page addresses look like hashes instead of numbers.
    opaque_pages: bool = False
    # A repository access token may list its repository without a project filter.
    narrow_tokens_list: bool = False
    # git's POST is refused where no GET came before it.
    git_needs_get_first: bool = False
    # Lists say how many entries they have.
    lists_tell_size: bool = True
    # App passwords still work.
    app_passwords: bool = False

    @classmethod
    def default(cls) -> Switches:
        """What is thought likeliest."""
        return cls()

    @classmethod
    def inverted(cls) -> Switches:
        """Every switch the other way round."""
        return replace(cls(), **{one.name: not one.default for one in fields(cls)})

    @classmethod
    def seeded(cls, seed: int) -> Switches:
        """A mix, the same for the same number."""
        chance = random.Random(seed)
        mix: dict[str, Any] = {one.name: chance.random() < 0.5 for one in fields(cls)}
        return cls(**mix)
