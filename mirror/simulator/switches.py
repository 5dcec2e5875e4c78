"""Uncertain facts about Bitbucket, as switches, so that a client can be tested both ways."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Switches:
    """Each field is one uncertain fact; the default is the likelier value.

    `inverted` has the opposite of each; `seeded` a random mix for a seed.
    """

    # -- Lists

    # Pull requests and their activity have at most 50 to a page (the published document says 100).
    pull_request_page_cap_50: bool = True
    # The steps of a pipeline have at most 50 to a page, not 100.
    steps_page_cap_50: bool = False
    # Pipelines have at most 50 to a page, not 100.
    pipelines_page_cap_50: bool = False
    # A page larger than the cap is cut to it, not refused as "Invalid pagelen".
    long_pages_are_cut: bool = False
    # A repeated query parameter is refused (`next` already contains them all).
    repeated_parameters_refused: bool = True
    # Pages are named by hashes instead of numbers.
    opaque_pages: bool = False
    # Lists have `size`, the number of entries.
    lists_have_size: bool = True
    # Lists have `page` and `pagelen` (only `values` and `next` are guaranteed).
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

    # A repository has a list of the activity of all pull requests, equal to the single ones.
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
    # A pull request into a deleted branch has no destination commit.
    gone_branches_lose_commits: bool = True
    # The author of a deleted account is null, not a nameless account.
    deleted_accounts_are_null: bool = True
    # Repositories have `has_issues` and `has_wiki`.
    repositories_show_trackers: bool = False
    # A renamed repository's old address redirects; otherwise it is not found.
    renamed_repositories_redirect: bool = True
    # Issue trackers exist.
    issue_tracker: bool = False
    # Responses about issues have Deprecation, Sunset and Link headers.
    deprecation_headers: bool = True

    # Redirects to files, such as step logs, are refused (406) to clients that accept only JSON.
    redirects_honour_accept: bool = True
    # So are diffs and patches. Two working clients request them with such a header.
    diffs_honour_accept: bool = False
    # The addresses of a snippet's files are `files/REVISION/NAME`, not `REVISION/files/NAME`.
    snippet_files_name_revision_last: bool = False

    # -- Rate limits

    # Responses to access tokens have rate-limit headers.
    rate_limit_headers: bool = True
    # So have the responses to all other credentials.
    rate_limit_headers_for_all: bool = False
    # They have the form that anonymous callers get: `1000, 1000;w=3600`, with the remaining number.
    rate_limit_headers_as_policy: bool = False
    # A 429 has Retry-After, in seconds.
    retry_after: bool = False
    # Retry-After is an HTTP date.
    retry_after_is_a_date: bool = False
    # A 429 is plain text, not JSON.
    rate_limit_refusal_is_text: bool = False

    # -- Authentication

    # Sometimes a valid credential gets a 401, and the next request succeeds.
    stray_refusals: bool = False
    # A user's API token is accepted as Bearer, too.
    api_token_as_bearer: bool = False
    # App passwords still work.
    app_passwords: bool = False
    # git responds to a retired app password with 410 instead of 401.
    dead_passwords_are_410: bool = False
    # Access tokens may list the workspaces of the caller (and find none) instead of being refused.
    access_tokens_list_workspaces: bool = False
    # A repository access token may list its repository without a project filter.
    narrow_tokens_list: bool = False
    # A narrow token's list shows repositories that it may not read.
    lists_show_unreadable: bool = False
    # A missing scope is 404, not 403 with the name of the scope.
    denied_is_404: bool = False
    # Responses name the kind of credential in `X-Credential-Type`.
    credential_type_header: bool = True
    # Access tokens may query permissions.
    access_tokens_query_permissions: bool = False
    # A Connect JWT may name the installation's client key as its issuer, not only the app's key.
    connect_issuer_may_be_client: bool = False

    # -- Writing

    # A trailing slash makes no difference, except in paths of pipelines.
    slashes_at_the_end_are_ignored: bool = True
    # A body of another media type is 415, not 400.
    wrong_media_type_is_415: bool = True
    # A PUT without a body is refused even where it needs none, as a POST is.
    empty_puts_refused: bool = False
    # Fields outside the published description are refused instead of ignored.
    unknown_fields_refused: bool = False
    # Access tokens may change permissions.
    access_tokens_change_permissions: bool = False
    # Access tokens may change deploy keys.
    access_tokens_change_deploy_keys: bool = False
    # Hooks need the scopes of their events, too.
    hook_events_need_scopes: bool = True
    # Hooks for events of issues are refused, because trackers are retired.
    issue_events_refused: bool = False
    # Hooks to this machine are refused, as Bitbucket does. But the simulator sends to no others.
    loopback_hooks_refused: bool = False
    # A change of a repository's branching model ends its inheritance from the project.
    branching_model_stops_inheriting: bool = False
    # Enabling pipelines creates environments.
    environments_come_with_pipelines: bool = False
    # Variables, schedules and environments require enabled pipelines.
    pipelines_settings_need_pipelines: bool = False
    # The refusal of one schedule too many is 401, not 400.
    too_many_schedules_is_401: bool = True

    # A reply to a missing comment is a server error, not a bad request.
    unknown_parents_are_500: bool = True
    # A comment on a file that neither side of the diff has is refused; otherwise it counts as outdated.
    comments_need_their_file: bool = False
    # Longer comments than 32,768 characters are refused, as by the version for data centers.
    long_comments_refused: bool = False
    # A change of a pull request takes away its reviewers, and that its branch closes, where it omits them.
    changes_clear_what_they_omit: bool = True
    # A second pull request between the same branches changes the first one; otherwise it is refused.
    same_pull_request_is_updated: bool = True
    # An invalid reviewer makes the request fail; otherwise the reviewer is left out.
    bad_reviewers_refused: bool = True
    # Pushes and files over the size limits are refused.
    large_pushes_refused: bool = True

    # -- Hooks' deliveries

    # A hook arrives before its change can be seen: what was requested before is answered once more as it was.
    hooks_precede_changes: bool = False
    # A push to the source branch of a pull request is an update of the pull request, too.
    pushes_update_pull_requests: bool = True

    # -- git

    # git's POST is refused without a GET before it.
    git_needs_get_first: bool = False
    # git serves protocol v2 on request.
    git_protocol_v2: bool = True
    # git serves partial clones (`--filter`).
    git_filter: bool = True
    # Wikis exist, as git repositories beside the code.
    wikis: bool = False
    # git responds to a missing wiki with 410 instead of 404.
    absent_wikis_are_410: bool = False
    # git responds to a missing wiki with 401, even to authenticated clients.
    absent_wikis_are_401: bool = False
    # A wiki requires the scope `wiki`, which no access token can have.
    wikis_need_scope: bool = False
    # git serves any wanted object, not only the tips of refs.
    git_serves_any_hash: bool = False

    # -- Git LFS

    # LFS responds to anonymous clients of a private repository with 403, not 401.
    lfs_anonymous_is_403: bool = True
    # LFS accepts access tokens and OAuth tokens; otherwise only credentials of users.
    lfs_takes_access_tokens: bool = True
    # The expiry of an action is a time, not a number of seconds.
    lfs_expiry_is_a_time: bool = False
    # A request for an object with a wrong size is refused.
    lfs_checks_sizes: bool = True
    # The media store serves ranges.
    lfs_ranges: bool = True
    # Uploads must be verified.
    lfs_wants_verify: bool = True

    @classmethod
    def default(cls) -> Switches:
        """The likelier value of each."""
        return cls()

    @classmethod
    def inverted(cls) -> Switches:
        """The opposite of each default."""
        return replace(cls(), **{one.name: not one.default for one in fields(cls)})

    @classmethod
    def seeded(cls, seed: int) -> Switches:
        """A random mix, the same for the same seed and switches."""
        mix: dict[str, Any] = {
            one.name: random.Random(f"{seed} {one.name}").random() < 0.5 for one in fields(cls)
        }
        return cls(**mix)
