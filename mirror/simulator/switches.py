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

    # -- Lists

    # Pull requests and their activity take 50 to a page (the published document says 100).
    pull_request_page_cap_50: bool = True
    # The steps of a pipeline take 50 to a page, not 100.
    steps_page_cap_50: bool = False
    # Pipelines take 50 to a page, not 100.
    pipelines_page_cap_50: bool = False
    # A page larger than the cap is cut to it, not refused as "Invalid pagelen".
    long_pages_are_cut: bool = False
    # A parameter that stands twice in an address (`next` has them all already) is refused.
    repeated_parameters_refused: bool = True
    # Page addresses look like hashes instead of numbers.
    opaque_pages: bool = False
    # Lists say how many entries they have.
    lists_have_size: bool = True
    # Lists say which page this is and how long (only `values` and `next` are promised).
    lists_have_page: bool = True
    # A page begins with the last entry of the page before, as when a list shifts while it is read.
    lists_repeat_entries: bool = False
    # `fields=+values.participants` works on the list of pull requests.
    participants_in_lists: bool = True
    # Hashes in the list of pull requests, and in activity, have 12 digits.
    short_hashes: bool = True
    # `sort` with several states is a server error.
    sort_with_states_fails: bool = True

    # -- Pipelines

    # The list of pipelines has `next`.
    pipelines_have_next: bool = False
    # The pipelines list is found only with a slash at its end.
    pipelines_need_slash: bool = True
    # `sort` works on pipelines; otherwise the oldest always comes first.
    pipelines_sort: bool = True
    # Deployments refuse `sort`; otherwise it is ignored.
    deployments_refuse_sort: bool = True
    # Where pipelines are switched off in a repository the list is 403, not empty.
    disabled_pipelines_are_403: bool = True

    # -- Pull requests, repositories, issues

    # The repository's list of all pull requests' activity is there, and has what each one's has.
    activity_of_all: bool = True
    # A new comment moves a pull request's `updated_on`.
    comments_move_updated_on: bool = True
    # An approval moves a pull request's `updated_on`.
    approvals_move_updated_on: bool = False
    # A new task moves a pull request's `updated_on`.
    tasks_move_updated_on: bool = False
    # A build status moves a pull request's `updated_on`.
    builds_move_updated_on: bool = False
    # Changes of pull requests move their repository's `updated_on`, too, not commits alone.
    pull_requests_move_repository: bool = False
    # A pull request into a branch that is gone names no destination commit.
    gone_branches_lose_commits: bool = True
    # What a deleted account wrote has null for its author, not a nameless account.
    deleted_accounts_are_null: bool = True
    # Repositories say `has_issues` and `has_wiki`.
    repositories_show_trackers: bool = False
    # A renamed repository's old address redirects; otherwise it is not found.
    renamed_repositories_redirect: bool = True
    # The issue tracker is there.
    issue_tracker: bool = False
    # Answers about issues carry Deprecation, Sunset and Link headers.
    deprecation_headers: bool = True

    # What only redirects to a file is refused (406) to who takes JSON alone, as step logs are.
    redirects_honour_accept: bool = True
    # Diffs and patches are refused (406) to who takes JSON alone, too. Two clients that work ask so.
    diffs_honour_accept: bool = False
    # The addresses of a snippet's files are `files/REVISION/NAME`, not `REVISION/files/NAME`.
    snippet_files_name_revision_last: bool = False

    # -- Rate limits

    # Rate-limit headers come with answers to access tokens.
    rate_limit_headers: bool = True
    # They come with answers to everybody else, too.
    rate_limit_headers_for_all: bool = False
    # They are written as anonymous callers get them: `1000, 1000;w=3600`, with what remains.
    rate_limit_headers_as_policy: bool = False
    # A refusal for the rate limit says Retry-After, in seconds.
    retry_after: bool = False
    # Where it does, it is an HTTP date.
    retry_after_is_a_date: bool = False
    # A refusal for the rate limit is plain text, not JSON.
    rate_limit_refusal_is_text: bool = False

    # -- Sign-in

    # Now and then a good credential is refused for nothing: 401, and the next request is answered.
    stray_refusals: bool = False
    # A user's API token is accepted as Bearer, too.
    api_token_as_bearer: bool = False
    # App passwords still work.
    app_passwords: bool = False
    # git answers a dead app password with 410 instead of 401.
    dead_passwords_are_410: bool = False
    # Access tokens may list the workspaces of the caller (and find none) instead of being refused.
    access_tokens_list_workspaces: bool = False
    # A repository access token may list its repository without a project filter.
    narrow_tokens_list: bool = False
    # A narrow token's list shows repositories that it may not read.
    lists_show_unreadable: bool = False
    # What a credential may not see is 404, not 403 with the missing scope.
    denied_is_404: bool = False
    # Answers name the kind of credential in `X-Credential-Type`.
    credential_type_header: bool = True
    # Access tokens may query permissions.
    access_tokens_query_permissions: bool = False
    # A Connect JWT may name the installation's client key as its issuer, not only the app's key.
    connect_issuer_may_be_client: bool = False

    # -- Writing

    # Addresses with a slash at their end are the same as without (those of pipelines apart).
    slashes_at_the_end_are_ignored: bool = True
    # A body of another media type is 415, not 400.
    wrong_media_type_is_415: bool = True
    # A PUT that needs no body is refused where there is none, as POSTs are.
    empty_puts_refused: bool = False
    # Fields that the description does not know are refused instead of ignored.
    unknown_fields_refused: bool = False
    # Access tokens may change permissions.
    access_tokens_change_permissions: bool = False
    # Access tokens may change deploy keys.
    access_tokens_change_deploy_keys: bool = False
    # Hooks need the scopes of their events, too.
    hook_events_need_scopes: bool = True
    # Hooks for events of issues are refused, now that there are none.
    issue_events_refused: bool = False
    # A change of a repository's branching model ends what it inherits from its project.
    branching_model_stops_inheriting: bool = False
    # Environments are there as soon as pipelines are switched on.
    environments_come_with_pipelines: bool = False
    # Variables, schedules and environments need pipelines to be switched on.
    pipelines_settings_need_pipelines: bool = False
    # The refusal of one schedule too many is 401, not 400.
    too_many_schedules_is_401: bool = True

    # A reply to a comment that is not there is a server error, not a bad request.
    unknown_parents_are_500: bool = True
    # A second pull request between the same branches changes the first one; otherwise it is refused.
    same_pull_request_is_updated: bool = True
    # A reviewer who may not review makes the whole request bad; otherwise they are left out.
    bad_reviewers_refused: bool = True
    # Pushes and files over the size limits are refused.
    large_pushes_refused: bool = True

    # -- git

    # git's POST is refused where no GET came before it.
    git_needs_get_first: bool = False
    # git speaks protocol v2 where it is asked to.
    git_protocol_v2: bool = True
    # git's partial clones work (`--filter`).
    git_filter: bool = True
    # Wikis are still there, as git repositories beside the code.
    wikis: bool = False
    # git answers 410 for a wiki that is not there, instead of 404.
    absent_wikis_are_410: bool = False
    # git answers 401 for a wiki that is not there, even to who has signed in.
    absent_wikis_are_401: bool = False
    # git wants the scope `wiki` for a wiki, which no access token can have.
    wikis_need_scope: bool = False
    # git serves any object that is wanted, not only the tips of refs.
    git_serves_any_hash: bool = False

    # -- Git LFS

    # LFS answers 403 to the unknown where the repository is private, not 401.
    lfs_anonymous_is_403: bool = True
    # LFS takes access tokens and OAuth tokens; otherwise it is for users' own credentials alone.
    lfs_takes_access_tokens: bool = True
    # When an action lapses is told as a time of day, not in seconds from now.
    lfs_expiry_is_a_time: bool = False
    # An object that is asked for with another size than it has is refused.
    lfs_checks_sizes: bool = True
    # The media store gives parts of objects.
    lfs_ranges: bool = True
    # What was uploaded must be confirmed.
    lfs_wants_verify: bool = True

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
        """A mix, the same for the same number and the same switches."""
        mix: dict[str, Any] = {
            one.name: random.Random(f"{seed} {one.name}").random() < 0.5 for one in fields(cls)
        }
        return cls(**mix)
