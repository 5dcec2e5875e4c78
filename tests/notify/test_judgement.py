"""What is told, when, and only once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror.errors import Cancelled, NoStore
from mirror.model import Outcome, Problem, Run, RunEntry, RunKind, Selector
from mirror.notify.conditions import Event, Report, of_error, of_run
from mirror.notify.judgement import Verdict, judge
from mirror.notify.memory import Memory, Topic

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
ALL = tuple(Event)


def run_of(
    kind: RunKind = "backup", *, entries: dict[str, tuple[int, str]] | None = None, **more: object
) -> Run:
    """A run whose repositories have these problems."""
    found = tuple(
        RunEntry("repository", name, "{u}", "f", Outcome.FAILED, problems=(Problem(code, text),))
        for name, (code, text) in (entries or {}).items()
    )
    run = Run("20261123t020000z-3f9a2c", kind, NOW, NOW, "0.6.0", found)
    return replace(run, **more)  # type: ignore[arg-type]


def report_of(**entries: tuple[int, str]) -> Report:
    report = of_run(run_of(entries=entries))
    assert report is not None
    return report


class Story:
    """One topic from run to run; every message arrives, unless `is_deaf`."""

    def __init__(self, on: tuple[Event, ...] = ALL) -> None:
        self.topic, self.on, self.is_deaf = Topic(), on, False

    def at(self, hours: float, report: Report) -> Verdict:
        """The verdict so many hours after the first."""
        verdict = judge(report, self.topic, now=NOW + timedelta(hours=hours), on=self.on)
        topic = verdict.if_not_sent if self.is_deaf and verdict.kind != "nothing" else verdict.if_sent
        self.topic = Topic.from_json(topic.to_json())  # what the next process reads
        return verdict


FAILING = report_of(a=(3, "pipelines missing"))


def test_a_failure_is_told_once_then_every_day_then_its_end() -> None:
    story = Story()
    kinds = [story.at(hours, FAILING).kind for hours in (0, 4, 8, 20)]
    assert kinds == ["new", "nothing", "nothing", "nothing"]
    # A daily run does not end at the same minute every day.
    assert [story.at(hours, FAILING).kind for hours in (23.9, 24.1, 47.9)] == ["still", "nothing", "still"]
    assert [story.at(hours, report_of()).kind for hours in (52, 56)] == ["over", "nothing"]
    assert story.at(57, FAILING).kind == "new"


def test_another_failure_is_told_at_once_and_first() -> None:
    story = Story()
    story.at(0, FAILING)
    verdict = story.at(1, report_of(a=(3, "pipelines missing"), b=(75, "not reached")))
    assert verdict.kind == "new"
    assert [one.condition.place for one in verdict.conditions] == ["b", "a"]


def test_a_text_that_changes_is_no_other_failure() -> None:
    story = Story()
    story.at(0, report_of(a=(1, "the server answered 502")))
    assert story.at(1, report_of(a=(1, "the server answered 504"))).kind == "nothing"
    loss = "{} of 20 repositories of acme are gone"
    problems = [(Problem(5, loss.format(count)),) for count in (12, 13)]
    brake = [of_run(run_of(problems=one)) for one in problems]
    story = Story()
    assert brake[0] is not None and brake[1] is not None
    assert [story.at(0, brake[0]).kind, story.at(1, brake[1]).kind] == ["new", "nothing"]


def test_what_did_not_arrive_is_told_again() -> None:
    story = Story()
    story.is_deaf = True
    assert [story.at(hours, FAILING).kind for hours in (0, 4)] == ["new", "new"]
    story.is_deaf = False
    assert [story.at(hours, FAILING).kind for hours in (8, 12)] == ["new", "nothing"]
    story.is_deaf = True
    assert story.at(16, report_of()).kind == "over"
    assert story.topic.report("backup").conditions == ()
    story.is_deaf = False
    # The daemon repeats the last report, which had no failure any more.
    assert story.at(17, story.topic.report("backup")).kind == "over"
    assert story.at(18, story.topic.report("backup")).kind == "nothing"


def test_only_what_is_wanted_is_told() -> None:
    story = Story((Event.DAMAGE,))
    assert [story.at(0, FAILING).kind, story.at(30, FAILING).kind] == ["nothing", "nothing"]
    damaged = report_of(a=(3, "pipelines missing"), b=(4, "the ledger is damaged"))
    verdict = story.at(31, damaged)
    assert verdict.kind == "new"
    assert [one.condition.place for one in verdict.conditions] == ["b"]
    assert story.at(32, report_of()).kind == "nothing"


def test_a_notice_of_the_future_does_not_silence_anything() -> None:
    story = Story()
    story.at(1000, FAILING)
    assert [story.at(hours, FAILING).kind for hours in (0, 1)] == ["still", "nothing"]


def test_stopped_and_dry_runs_tell_nothing() -> None:
    assert of_run(run_of(problems=(Problem(130, "the run was stopped"),))) is None
    assert of_run(run_of(facts={"dry_run": True}, entries={"a": (1, "x")})) is None
    assert of_error("backup", Cancelled("stopped")) is None


def test_an_error_without_a_run_is_told() -> None:
    report = of_error("backup", NoStore("there is no store at /mnt/backup"))
    assert report is not None
    [condition] = report.conditions
    assert (condition.code, condition.event) == (10, Event.FAILURE)
    unexpected = of_error("backup", ValueError("holds https://me:secret@example.org"))
    assert unexpected is not None
    assert "secret" not in unexpected.conditions[0].text


def test_runs_of_other_selectors_are_topics_of_their_own() -> None:
    chosen = of_run(run_of(), [Selector.parse("acme/website")])
    assert chosen is not None
    assert chosen.topic == "backup acme/website"


def finding(file: str, severity: str = "damage") -> dict[str, object]:
    return {
        "file": file, "problem": "its seal is broken", "repository": "acme/website", "object": None,
        "snapshots": [], "severity": severity,
    }  # fmt: skip


def test_each_finding_of_damage_is_told_and_a_share_takes_nothing_back() -> None:
    facts = {"findings": [finding("a.json"), finding("b.json"), finding("c.json", "warning")]}
    problem = (Problem(4, "2 finding(s) of damage"),)
    whole = of_run(run_of("verify", facts=facts, problems=problem))
    assert whole is not None
    assert [(one.event, one.key) for one in whole.conditions] == [
        (Event.DAMAGE, "acme/website:a.json"), (Event.DAMAGE, "acme/website:b.json"),
    ]  # fmt: skip
    story = Story()
    share = of_run(run_of("verify", facts={**facts, "share": "1 of 9 folders"}, problems=problem))
    clean = of_run(run_of("verify", facts={"findings": [], "share": "1 of 9 folders"}))
    assert share is not None and clean is not None
    assert share.topic == clean.topic != whole.topic
    assert [story.at(0, share).kind, story.at(30, clean).kind] == ["new", "nothing"]


def test_the_brake_is_told_by_backups_only() -> None:
    tripped = {"acme/website": (5, "13 of 20 branches are gone")}
    [backup] = (of_run(run_of(entries=tripped)) or FAILING).conditions
    assert backup.event is Event.BRAKE
    assert (of_run(run_of("prune", entries=tripped)) or FAILING).conditions == ()


def told(report: Report) -> Topic:
    return judge(report, Topic(), now=NOW, on=ALL).if_sent


CODE_TOO_LARGE = (
    b'{"conditions": [{"key": "", "place": "", "event": "failure", "code": 1e999, "text": "",'
    b' "repeats": true, "since": "2026-11-20T00:00:00Z", "told": null}],'
    b' "noticed": null, "source": "", "is_over": false}'
)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"conditions": [{}], "noticed": 1}', b"\xff", CODE_TOO_LARGE]
)
def test_memory_survives_restarts_and_damage(tmp_path: Path, content: bytes) -> None:
    topic = told(report_of(**{name: (3, name) for name in "abcde"}))
    Memory(tmp_path).write("backup", topic)
    read = Memory(tmp_path).read("backup")
    assert read.conditions.keys() == topic.conditions.keys()
    texts = [one.condition.text for one in read.conditions.values()]
    assert sorted(texts) == ["", "", "a", "b", "c"]  # bounded, however much fails
    [file] = tmp_path.iterdir()
    file.write_bytes(content)
    assert Memory(tmp_path).read("backup") == Topic()
    Memory(tmp_path).write("backup acme/*", topic)
    assert Memory(tmp_path).read("backup acme/*").conditions.keys() == topic.conditions.keys()


def test_without_a_store_the_process_remembers(tmp_path: Path) -> None:
    memory, topic = Memory(tmp_path / "unmounted" / "cache"), told(FAILING)
    memory.write("backup", topic)
    assert memory.read("backup") == topic
    assert list(tmp_path.iterdir()) == []


def test_what_is_well_leaves_no_file(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.write("backup", told(FAILING))
    memory.write("backup", Topic())
    assert list(tmp_path.iterdir()) == []
