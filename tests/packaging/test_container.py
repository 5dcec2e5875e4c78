"""What runs in containers: the image's recipe, compose and Kubernetes, held against the program itself."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mirror.cli import parser
from mirror.config import Config, load_text
from mirror.simulator import Simulator, World
from mirror.simulator.world.sample import SCOPES, populate
from tests.daemon.test_service import Systemd
from tests.e2e.helpers import write_config
from tests.packaging.conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
USER = 65532


def instructions(name: str) -> list[str]:
    """The arguments of each instruction of a name in the Dockerfile, its lines joined."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^\s*{name} (.+)$", joined, re.MULTILINE)


def read(path: str, *, with_examples: bool = False) -> str:
    """A file of `deploy`; with its examples as somebody has them who wants them: a # that stands right before
    a key is one of these."""
    text = (ROOT / "deploy" / path).read_text()
    return re.sub(r"^( *)#(?=\S)", r"\1", text, flags=re.MULTILINE) if with_examples else text


def manifests(*, with_examples: bool = False) -> dict[str, dict[str, Any]]:
    """The Kubernetes objects, by kind."""
    found: dict[str, dict[str, Any]] = {}
    for path in (ROOT / "deploy/kubernetes").glob("*.yaml"):
        text = read(f"kubernetes/{path.name}", with_examples=with_examples)
        for document in yaml.safe_load_all(text):
            assert document["kind"] not in found, "one of a kind"
            assert document["metadata"]["namespace"] == "mirror"
            found[document["kind"]] = document
    return found


def pod_of(kind: str) -> dict[str, Any]:
    pod: dict[str, Any] = manifests()[kind]["spec"]["template"]["spec"]
    return pod


def composed(*, with_examples: bool = False) -> dict[str, Any]:
    """The file of compose."""
    found: dict[str, Any] = yaml.safe_load(read("compose/compose.yaml", with_examples=with_examples))
    return found


def secret_files(config: Config) -> set[str]:
    """Every file that a configuration reads a secret from."""
    from mirror.systemd.needs import secret_sources

    return {str(source.value) for source in secret_sources(config)}


def test_the_base_is_pinned_and_the_same_for_both_stages() -> None:
    [base] = instructions("ARG")
    assert re.fullmatch(r"BASE=docker\.io/library/python:3\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)
    assert instructions("FROM") == ["${BASE} AS build", "${BASE}"]


def test_what_is_installed_is_pinned_by_hash_or_comes_from_the_base() -> None:
    for line in instructions("RUN"):
        for install in re.findall(r"pip install[^&]*", line):
            assert "--require-hashes -r requirements/" in install or "--no-deps /wheels" in install


def test_the_context_has_what_the_recipe_copies() -> None:
    allowed = (ROOT / ".dockerignore").read_text().split("*\n", 1)[1]
    for line in instructions("COPY"):
        for source in [] if "--from" in line else line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}\n" in allowed or re.sub(r"\w+\.lock", "*.lock", source) in allowed, source


def test_process_1_is_an_init_and_the_program_is_nobody() -> None:
    assert instructions("ENTRYPOINT") == ['["tini", "--", "mirror"]']
    assert instructions("USER") == [f"{USER}:{USER}"]
    assert "tini" in next(line for line in instructions("RUN") if "apt-get" in line)


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_pods_may_do_nothing_but_what_they_need(kind: str) -> None:
    pod = pod_of(kind)
    context = pod["securityContext"]
    assert (context["runAsUser"], context["fsGroup"], context["runAsNonRoot"]) == (USER, USER, True)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    parser.parse(container["args"])


def test_compose_may_do_no_more() -> None:
    service = composed()["services"]["mirror"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    parser.parse(service["command"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@pytest.mark.parametrize("with_examples", [False, True])
def test_kubernetes_has_the_files_and_ports_that_its_configuration_names(with_examples: bool) -> None:
    found = manifests(with_examples=with_examples)
    config = load_text(found["ConfigMap"]["data"]["config.yaml"], "config.yaml", folder=Path("/config"))
    assert secret_files(config) == {f"/secrets/{name}" for name in found["Secret"]["stringData"]}
    assert len(config.copies) == with_examples
    pod = pod_of("Deployment")
    [container] = pod["containers"]
    assert config.web is not None and config.web.listen is not None
    port = config.web.listen.port
    assert container["ports"] == [{"name": "page", "containerPort": port}]
    assert found["Service"]["spec"]["ports"] == [{"name": "page", "port": port, "targetPort": "page"}]
    [ingress] = found["NetworkPolicy"]["spec"]["ingress"]
    assert ingress["ports"] == [{"protocol": "TCP", "port": port}]
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert labels == found["Service"]["spec"]["selector"]
    assert labels == found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert places == {"config": "/config", "secrets": "/secrets", "store": str(config.store), "tmp": "/tmp"}
    by_name = {volume["name"]: volume for volume in pod["volumes"]}
    # The group reads secrets, and not everybody: the program refuses that.
    assert by_name["secrets"]["secret"] == {"secretName": "mirror", "defaultMode": 0o440}
    assert "MIRROR_CONFIG=/config/config.yaml" in instructions("ENV")[0]


@pytest.mark.parametrize("with_examples", [False, True])
def test_compose_has_the_files_and_ports_that_its_configuration_names(with_examples: bool) -> None:
    made = composed(with_examples=with_examples)
    service = made["services"]["mirror"]
    text = read("compose/config/config.yaml", with_examples=with_examples)
    config = load_text(text, "config.yaml", folder=Path("/config"))
    assert secret_files(config) == {f"/run/secrets/{name}" for name in made["secrets"]}
    assert (len(config.copies), config.schedule.copy is not None) == (with_examples, with_examples)
    assert set(service["secrets"]) == set(made["secrets"])
    assert config.web is not None and config.web.listen is not None
    assert service["ports"] == [f"127.0.0.1:9321:{config.web.listen.port}"]
    assert f"store:{config.store}" in service["volumes"] and "store" in made["volumes"]


def test_the_version_is_this_one() -> None:
    from mirror import __version__

    for kind in ("Deployment", "Job"):
        assert pod_of(kind)["containers"][0]["image"] == f"mirror:{__version__}"


def test_as_process_1_the_daemon_obeys_signals_and_ends_in_order(tmp_path: Path) -> None:
    """Without an init, too: the kernel ignores a signal to process 1 that it has no handler for."""
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("a process namespace needs root and unshare")
    world = World(tmp_path / "upstream")
    populate(world)
    token = world.add_workspace_access_token("acme", SCOPES)
    systemd = Systemd(tmp_path / "notify")
    with Simulator(world) as simulator:
        config = write_config(tmp_path, simulator, token, more="schedule: {backup: every 4h}\n")
        running = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-m", "mirror",
             "daemon", "-c", config],
            env={**os.environ, "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": str(systemd.path)},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            systemd.wait("READY=1")
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text()
            os.kill(int(children), signal.SIGTERM)
            _, log = running.communicate(timeout=120)
            assert running.returncode == 0, log
            assert "Traceback" not in log
        finally:
            running.kill()
            running.wait()
            systemd.close()
