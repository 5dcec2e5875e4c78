"""`mirror restore --to bitbucket:…` as a person calls it: plan, report, and what is refused at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.cli import main
from mirror.cli.terminal.output import Output
from mirror.restore.carry.report import Report
from mirror.restore.plan.steps import Loss, Why
from mirror.store.reading.reader import Store
from tests.restore.carry.target import EMAIL, Upstream, upstream


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with upstream(tmp_path_factory.mktemp("command")) as found:
        yield found


@pytest.fixture
def config(target: Upstream, stored: Store, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = target.folder / "config.yaml"
    simulator = target.simulator
    path.write_text(
        f"store: {stored.path}\n"
        f"bitbucket: {{api_url: '{simulator.api_url}', git_url: '{simulator.git_url}'}}\n"
        "workspaces:\n"
        "  - workspace: acme\n    credential: {kind: workspace_access_token, token: {env: NONE}}\n"
        f"  - workspace: spare\n    credential: {{kind: api_token, email: {EMAIL}, token: {{env: RITA}}}}\n"
    )
    monkeypatch.setenv("RITA", target.environment["RITA"])
    monkeypatch.setenv("XDG_STATE_HOME", str(target.folder))
    return path


def call(config: Path, *words: str) -> int:
    return main(["restore", *words, "-c", str(config), "-q"])


def test_the_plan_and_the_report(config: Path, target: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    to = ("acme/website", "--to", "bitbucket:spare")
    assert call(config, *to, "--dry-run", "--json") == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["dry_run"] and planned["steps"] and not target.workspace.repositories
    assert call(config, *to, "--dry-run") == 0
    text = capsys.readouterr().out
    assert "Would restore acme/website to bitbucket:spare" in text and "POST repository" in text
    assert f"{planned['requests']} requests" in text

    assert call(config, *to, "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert done["schema"] == 1 and done["counts"]["made"] == len(planned["steps"])
    assert {one["key"] for one in done["entries"]} == {one["key"] for one in planned["steps"]}
    assert call(config, *to) == 0
    assert "Restored acme/website to bitbucket:spare" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("acme", "--to", "bitbucket:elsewhere"), 2, "no credential for the workspace elsewhere"),
        (("acme", "--to", "bitbucket:spare/a/b"), 2, "workspace/repository"),
        (("acme", "--to", "bitbucket:spare", "--only", "wiki"), 2, "it should be some of"),
        (("acme", "--to", "bitbucket:spare", "--with-archive", "refs/x"), 2, "--with-archive"),
        (("acme", "--to", "./folder", "--activate-hooks"), 2, "for a restore to a forge"),
        (("acme", "--to", "./folder", "--only", "settings"), 2, "for a restore to a forge"),
        (("acme/none", "--to", "bitbucket:spare"), 2, "none"),
        (("acme", "--to", "bitbucket:spare", "--secrets", "/nonexistent"), 2, "--secrets"),
        (("acme", "--to", "bitbucket:spare", "--refs", "refs/heads/none"), 2, "no ref of such a name"),
        (("acme", "--to", "bitbucket:spare", "--overwrite"), 2, "--yes"),
    ],
)
def test_what_is_refused_at_once(
    config: Path,
    target: Upstream,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    text: str,
) -> None:
    asked = [one for one in target.requests if one[0] != "GET"]
    assert call(config, *words) == code
    assert text in capsys.readouterr().err
    assert [one for one in target.requests if one[0] != "GET"] == asked


def test_a_name_with_line_ends_forges_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line of a plan and of a report goes this way, and names come from whoever was backed up."""
    hook = Loss("web/hooks/a", "webhooks", "hook a\n  0 refused\u2028Restored\r\nall", Why.NEVER)
    out = Output(as_json=False, no_colour=True)
    out.lines(Report("bitbucket:spare", (), (hook,)).lines())
    assert len(capsys.readouterr().out.splitlines()) == 2
