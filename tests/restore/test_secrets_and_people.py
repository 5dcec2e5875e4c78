"""The files that a restore is given: strict, every fault at once, and no secret in a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.auth.secrets import SecretSource
from mirror.bitbucket.endpoints import HOOKS
from mirror.errors import ConfigError
from mirror.logs import redact
from mirror.restore import people, secrets
from mirror.restore.plan.source import Options
from mirror.restore.plan.steps import Call, Loss, Plan, Secret, Stage, Step, Why

THEN, NOW = "{0f9c4a2e-1111-4222-8333-444455556666}", "{aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee}"


def written(folder: Path, text: str) -> Path:
    path = folder / "given.yaml"
    path.write_text(text)
    return path


def faults(error: pytest.ExceptionInfo[ConfigError]) -> list[tuple[int | None, str, str]]:
    return [(one.line, one.key, one.problem) for one in error.value.faults]


def test_each_secret_has_its_source(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "website/variables/API_KEY: {file: key}\n"
        "~workspace/webhooks/https://ci.example/hook Tells: {env: HOOK}\n"
        "website/variables/OTHER: {command: [pass, other]}\n",
    )
    found = secrets.load(path)
    assert found.sources == {
        "website/variables/API_KEY": SecretSource("file", str(tmp_path / "key")),
        "~workspace/webhooks/https://ci.example/hook Tells": SecretSource("env", "HOOK"),
        "website/variables/OTHER": SecretSource("command", ("pass", "other")),
    }
    assert found.keys == set(found.sources)


def test_faulty_secrets_are_told_at_once_and_never_repeated(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "a/variables/A: hunter2\n"
        "a/variables/B: {fil: hunter2}\n"
        "a/variables/C: {file: x, env: Y}\n"
        "a/variables/D:\n"
        "a/variables/A: {file: x}\n"
        "hunter2: no\n"
        "[a, hunter2]: {file: x}\n",
    )
    with pytest.raises(ConfigError) as caught:
        secrets.load(path)
    assert "hunter2" not in str(caught.value)
    told = {(line, problem) for line, _, problem in faults(caught)}
    no_source = "does not name the source of the secret"
    assert {(2, no_source), (3, no_source), (4, no_source), (5, "is repeated")} <= told
    assert (6, "contains a secret, which must not be in this file") in told
    assert (7, "has a list or a mapping in the place of a key") in told
    assert f"{path}:2: a/variables/B: {no_source}; name its source" in str(caught.value)


def test_a_secret_in_the_file_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        secrets.load(written(tmp_path, "a/variables/A: hunter2\n"))
    assert faults(caught) == [(1, "a/variables/A", "contains a secret, which must not be in this file")]


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "\x00"])
def test_what_is_no_list_of_secrets_is_refused(tmp_path: Path, text: str) -> None:
    for load in (secrets.load, people.load):
        with pytest.raises(ConfigError):
            load(written(tmp_path, text))
        with pytest.raises(ConfigError, match="cannot be read"):
            load(tmp_path / "none.yaml")


def _plan() -> Plan:
    body = {"url": "https://ci.example/hook", "inner": [{"secret": Secret("a/webhooks/X")}]}
    step = Step("a/webhooks/X", "webhooks", "", Call("POST", HOOKS, {}, body), Stage.HOOKS)
    losses = (
        Loss("a/variables/API_KEY", "variables", "", Why.SECRET),
        Loss("a/runners", "runners", "", Why.LACKING),
    )
    return Plan((step,), losses)


def test_a_key_that_no_secret_has_is_a_fault(tmp_path: Path) -> None:
    known = secrets.secret_keys(_plan())
    assert known == {"a/webhooks/X", "a/variables/API_KEY"}
    found = secrets.load(
        written(tmp_path, "a/webhooks/X: {env: X}\na/variables/API_KAY: {env: Y}\nhunter2: {env: Z}\n")
    )
    with pytest.raises(ConfigError) as caught:
        found.check(known)
    assert [line for line, _, _ in faults(caught)] == [2, 3]
    assert "did you mean a/variables/API_KEY?" in str(caught.value) and "hunter2" not in str(caught.value)
    secrets.load(written(tmp_path, "a/webhooks/X: {env: X}\n")).check(known)


async def test_secrets_are_read_or_all_faults_are_told(tmp_path: Path) -> None:
    found = secrets.load(written(tmp_path, "a/b/c: {env: ONE}\na/b/d: {env: TWO}\na/b/e: {file: none}\n"))
    with pytest.raises(ConfigError) as caught:
        await found.read({"ONE": "hunter2"})
    assert [line for line, _, _ in faults(caught)] == [2, 3] and "hunter2" not in str(caught.value)
    (tmp_path / "none").touch(mode=0o600)
    (tmp_path / "none").write_text("hunter4\n")
    read = await found.read({"ONE": "hunter2", "TWO": "hunter3"})
    assert {key: one.reveal() for key, one in read.items()} == {
        "a/b/c": "hunter2", "a/b/d": "hunter3", "a/b/e": "hunter4",
    }  # fmt: skip


def test_people_are_known_by_their_uuids(tmp_path: Path) -> None:
    text = f'"{THEN.upper()}": "{NOW}"\n{NOW.strip("{}")}: {THEN.strip("{}")}\n'
    assert people.load(written(tmp_path, text)) == {THEN: NOW, NOW: THEN}


def test_faulty_people_are_told_at_once(tmp_path: Path) -> None:
    bare = THEN.strip("{}")
    path = written(
        tmp_path,
        f"ann: '{NOW}'\n"
        f"{bare}: bob\n"
        f"'{THEN}': '{NOW}'\n"
        f"'{NOW}': {NOW}\n"
        f"{THEN}: '{NOW}'\n"
        f"{bare.upper()}: '{NOW}'\n",
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        people.load(path)
    assert faults(caught) == [
        (1, "ann", "is no uuid"),
        (2, bare, "has no uuid for its value"),
        (4, NOW, "has no uuid for its value"),
        (5, "", "has a list or a mapping in the place of a key"),
        (6, bare.upper(), f"is the same person as {THEN}"),
    ]


def test_a_forge_may_know_people_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "people.yaml"
    path.write_text('"{11111111-0000-4000-8000-00000000000A}": ann\n')
    assert people.load_names(path) == {"{11111111-0000-4000-8000-00000000000a}": "ann"}
    path.write_text('"{11111111-0000-4000-8000-00000000000A}": "ann archer"\n')
    with pytest.raises(ConfigError) as caught:
        people.load_names(path)
    [fault] = caught.value.faults
    assert (fault.line, fault.problem) == (1, "has no user name for its value")


KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize("end", ["", "\n", "\r\n\n"])
async def test_a_secret_of_several_lines_keeps_them(tmp_path: Path, end: str) -> None:
    (tmp_path / "key").touch(mode=0o600)
    (tmp_path / "key").write_bytes((KEY.replace("\n", "\r\n" if "\r" in end else "\n") + end).encode())
    found = secrets.load(written(tmp_path, "a/variables/KEY: {file: key}\n"))
    read = await found.read({})
    assert read["a/variables/KEY"].reveal() == f"{KEY}\n"
    # A message that has one of its lines does not show it.
    assert "b3BlbnNzaC1rZXk" not in redact("refused: b3BlbnNzaC1rZXktdjEAAAAA")


def test_somebody_whom_no_restore_asks_for_is_told(tmp_path: Path) -> None:
    found = people.load(written(tmp_path, f'"{THEN}": "{NOW}"\n"{NOW}": "{THEN}"\n'))
    options = Options(people=found)
    assert options.person(THEN) == NOW and options.person("{nobody}") == "{nobody}"
    [told] = found.warnings
    assert NOW in told and THEN not in told
    assert options.person(NOW) == THEN and found.warnings == []
