"""The losses of what has happened, as it cannot be made anew, and the branch with pages of it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mirror.errors import UsageError
from mirror.git.refs import name_fault
from mirror.restore.plan.pull_requests import KIND, numbered
from mirror.restore.plan.source import Options, Source, Target
from mirror.restore.plan.steps import Loss, PushPages, Stage, Step, Why
from mirror.restore.plan.texts import counted

_WIKI = "mirror restore --only wiki --to URL pushes it to a git server"


def steps_of_history(source: Source, _target: Target, options: Options) -> Iterator[Step | Loss]:
    """Issues, pipelines and the wiki as losses, and the step that pushes pages of all of it. Raises
    StoreDamaged, and UsageError where no branch can have the name that was asked for."""
    for folder in ("issues", "pipelines"):
        count = len(numbered(source, folder))
        if count:
            label = f"{counted(count, folder.removesuffix('s'))} of {source.title}"
            yield Loss(source.key(folder), folder, label, Why.ARCHIVED)
    if "wiki" in source.mirrors:
        yield Loss(source.key("wiki"), "wiki", f"the wiki of {source.title}", Why.NEVER, _WIKI)
    if options.archive is not None:
        if fault := name_fault(b"refs/heads/" + os.fsencode(options.archive)):
            raise UsageError(f"--archive {options.archive}: no branch can have this name: {fault}")
        label = f"pages of {source.title} on the branch {options.archive}"
        after = (source.key("repository"), source.key("branches"))
        yield Step(source.key("pages"), KIND, label, PushPages(options.archive), Stage.OTHER_REFS, after)
