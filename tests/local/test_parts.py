"""The pieces of a local cluster that need no process: ports, locks, images, rules, pins."""

from __future__ import annotations

import hashlib
import json
import socket
import tarfile
import threading
import time
from pathlib import Path

import pytest

from localcluster import (
    binaries,
    cache,
    configs,
    firewall,
    images,
    node_lock,
    packages,
    ports,
    simulated,
    toolchain,
)
from localcluster.current import VARIABLE, is_wanted
from localcluster.errors import ClusterError, ComponentError, UnsupportedError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIDECARPOLICY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_port_that_is_taken_is_never_chosen() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        busy = listener.getsockname()[1]
        with pytest.raises(UnsupportedError, match="Only 0 of 1 ports"):
            ports.choose(1, (), first=busy, last=busy)


def test_ports_of_other_clusters_are_left_to_them() -> None:
    others = set(range(20000, 20010))
    chosen = ports.choose(10, others, first=20000, last=20100)
    assert len(set(chosen)) == 10
    assert not others & set(chosen)


def test_a_lock_lets_one_in_at_a_time_and_leaves_no_file(tmp_path: Path) -> None:
    path, inside, most = tmp_path / "lock", [0], [0]

    def work() -> None:
        for _ in range(10):
            with cache.locked(path, "waiting"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert not path.exists()


def test_an_image_is_made_once_and_its_digests_are_right() -> None:
    first = images.image_archive("sidecarpolicy.local/x:1", {"/usr/bin/x": b"#!"}, ["/usr/bin/x"])
    made = first.stat().st_mtime_ns
    assert images.image_archive("sidecarpolicy.local/x:1", {"/usr/bin/x": b"#!"}, ["/usr/bin/x"]) == first
    assert first.stat().st_mtime_ns == made
    assert images.image_archive("sidecarpolicy.local/x:2", {"/usr/bin/x": b"#!"}, ["/usr/bin/x"]) != first
    with tarfile.open(first) as tar:
        parts = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        content = {name: file.read() for name, file in parts.items() if file}
    [manifest] = json.loads(content["manifest.json"])
    assert manifest["RepoTags"] == ["sidecarpolicy.local/x:1"]
    config = json.loads(content[manifest["Config"]])
    [layer] = manifest["Layers"]
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(content[layer]).hexdigest()]


def test_only_our_rules_and_those_of_kube_proxy_are_removed() -> None:
    listed = """\
-P FORWARD ACCEPT
-N DOCKER
-N KUBE-SERVICES
-A FORWARD -j DOCKER
-A FORWARD -i sidecarpolicy0 -m comment --comment sidecarpolicy-node -j ACCEPT
-A FORWARD -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.1/32 -j ACCEPT
"""
    assert firewall.removals(listed) == [
        ["-D", "FORWARD", "-i", "sidecarpolicy0", "-m", "comment", "--comment", "sidecarpolicy-node", "-j", "ACCEPT"],
        ["-D", "FORWARD", "-m", "comment", "--comment", "kubernetes service portals", "-j", "KUBE-SERVICES"],
        ["-F", "KUBE-SERVICES"],
        ["-X", "KUBE-SERVICES"],
    ]


def test_an_owner_without_processes_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_lock, "FILE", tmp_path / "node.json")
    node_lock.take("mine", tmp_path / "mine", forwarding=True)
    owner = node_lock.owner()
    assert owner is not None
    assert owner.alive  # its starter, this test, still runs
    assert "cluster mine" in str(owner)
    document = json.loads(node_lock.FILE.read_text())
    document["starter"]["started"] -= 1
    node_lock.FILE.write_text(json.dumps(document))
    gone = node_lock.owner()
    assert gone is not None
    assert not gone.alive
    node_lock.release()
    assert node_lock.owner() is None


def test_another_pin_is_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = binaries.ETCD.built
    for part in ("go.mod", "go.sum"):
        (tmp_path / "etcd").mkdir(exist_ok=True)
        (tmp_path / "etcd" / part).write_bytes((binaries.ETCD.folder / part).read_bytes())
    monkeypatch.setattr(binaries, "MODULES", tmp_path)
    assert binaries.ETCD.built == before
    with (tmp_path / "etcd/go.sum").open("a") as sums:
        sums.write("\n")
    assert binaries.ETCD.built != before


def test_kubernetes_is_pinned_to_one_minor_version() -> None:
    assert binaries.KUBERNETES.version.startswith("v1.37.")
    assert f"gitVersion={binaries.KUBERNETES.version}" in binaries.KUBERNETES.linker_flags


def test_a_program_of_another_version_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kubectl(version: str) -> None:
        script = tmp_path / "kubectl"
        script.write_text(f'#!/bin/sh\necho \'{{"clientVersion": {{"gitVersion": "{version}"}}}}\'\n')
        script.chmod(0o755)

    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    kubectl("v1.37.0")
    assert binaries.require(["kubectl"]) == {"kubectl": tmp_path / "kubectl"}
    kubectl("v1.36.4-dispatcher")
    built: list[str] = []
    monkeypatch.setattr(binaries, "_build", lambda _, programs: built.extend(programs))
    assert binaries.require(["kubectl"])["kubectl"].parent == binaries.KUBERNETES.built
    assert built == ["kubectl"]


def test_a_build_that_fails_shows_what_the_compiler_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho 'cannot find module' >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setattr(toolchain, "go", lambda: go)
    monkeypatch.setattr(binaries, "_goproxy", lambda _: "https://proxy.example")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(ClusterError, match=r"(?s)etcd v3.*could not be built \(exit code 1\).*cannot find module"):
        binaries.require(["etcd"])
    assert not (binaries.ETCD.built / "etcd").exists()


def test_an_error_ends_with_the_log_and_advice(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(40)) + "bind: address already in use\n")
    message = str(ComponentError("etcd", "has died", log))
    assert message.startswith("etcd has died\n  | line 26\n")
    assert "start the cluster again" in message


def test_the_audit_log_leaves_out_kubernetes_itself() -> None:
    rules = configs.audit_policy()["rules"]
    silent = {user for rule in rules if rule["level"] == "None" for user in rule.get("users", [])}
    assert {"system:kube-scheduler", "system:kwok", configs.KEEPER} <= silent
    assert rules[-1] == {"level": "Metadata"}


def test_a_misspelt_wish_for_a_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "curent")
    with pytest.raises(ClusterError, match='SIDECARPOLICY_CLUSTER is "curent"'):
        is_wanted()


def test_a_python_is_not_static_and_a_script_is_no_program(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert not packages.is_static(script)
    assert not packages.is_static(Path("/bin/sh").resolve())


def test_a_tainted_node_is_only_for_those_who_tolerate_it() -> None:
    assert simulated.node("kwok-1", tainted=True)["spec"] == {"taints": [simulated.TAINT]}
    assert simulated.node("kwok-1", tainted=False)["spec"] == {}
