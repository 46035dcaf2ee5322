"""Wrong files, flags and words at the command line: each is said with its place and what to do, and nothing is done."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from sidecarpolicy.cli.main import COMMANDS, main
from tests.builders import Manifest, a_deployment, a_policy

OLD_SCHOOL = Path(__file__).parents[1] / "lint/migrations/gate-from-readiness/before.yaml"
BAD_INPUT = {"inject": 1, "eject": 1, "diff": 3, "lint": 1, "migrate": 1, "validate": 1}
"""The verbs that read manifests, and how they end on input that cannot be used."""


def run(*arguments: str | Path, text: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], input=text, catch_exceptions=False)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes manifests, or bytes, into a file."""

    def to_file(name: str, *bodies: Manifest | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"---\n".join(x if isinstance(x, bytes) else yaml.safe_dump(x).encode() for x in bodies))
        return path

    return to_file


@pytest.fixture
def reading(write: Callable[..., Path]) -> Callable[..., Result]:
    """Runs one of the verbs that read manifests, on this input and with a good policy where it takes one."""
    policy = write("good/policy.yaml", a_policy())

    def read(verb: str, *arguments: str | Path, text: str | None = None) -> Result:
        policies: list[str | Path] = ["-p", policy] if verb in ("inject", "diff") else []
        return run(verb, *policies, *arguments, text=text)

    return read


# Files


@pytest.mark.parametrize("verb", BAD_INPUT)
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            b"kind: Deployment\nmetadata:\n\tname: cart\n",
            "line 3, column 1: must be YAML or JSON: there is a tab, where YAML takes only spaces",
        ),
        (b"\x89PNG\r\n\x1a\n\x00", "line 1: must be UTF-8: invalid start byte at byte 0"),
        (b"kind: Deployment\n\x00", "line 2: must be YAML or JSON: "),
        (b"image: @latest\n", "line 1, column 8: must be YAML or JSON: no text begins with '@': put it in quotes"),
    ],
    ids=["a tab", "a picture", "a NUL", "a sign"],
)
def test_what_is_no_manifest_is_refused_with_its_line(
    reading: Callable[..., Result], write: Callable[..., Path], verb: str, content: bytes, says: str
) -> None:
    path = write("app.yaml", content)
    result = reading(verb, path)
    assert (result.exit_code, result.stdout) == (BAD_INPUT[verb], "")
    assert f"{path}, {says}" in result.stderr


@pytest.mark.parametrize("verb", BAD_INPUT)
def test_standard_input_is_called_by_its_name(reading: Callable[..., Result], verb: str) -> None:
    result = reading(verb, "-", text="a: [\n")
    assert result.exit_code == BAD_INPUT[verb]
    assert result.stderr.startswith("standard input, line 2, column 1: must be YAML or JSON: ")


@pytest.mark.parametrize("verb", [each for each in BAD_INPUT if each != "validate"])
def test_input_without_a_workload_is_said_with_what_it_holds(
    reading: Callable[..., Result], write: Callable[..., Path], verb: str
) -> None:
    nothing = write("empty.yaml", b"")
    assert f": there is no object in {nothing}\n" in reading(verb, nothing).stderr
    other = reading(verb, write("policies.yaml", a_policy(), a_policy("mesh"), {"kind": "ConfigMap"}))
    assert other.exit_code == 0
    assert " among 2 SidecarPolicy, 1 ConfigMap\n" in other.stderr


@pytest.mark.parametrize("verb", ["inject", "diff", "validate"])
def test_a_workload_where_a_policy_is_expected_is_refused(write: Callable[..., Path], verb: str) -> None:
    path = write("app.yaml", a_deployment())
    result = run(verb, *([path] if verb == "validate" else ["-p", path, path]))
    assert (result.exit_code, result.stdout) == (BAD_INPUT[verb], "")
    assert f"{path}: must hold a SidecarPolicy or a ClusterSidecarPolicy" in result.stderr


@pytest.mark.parametrize("verb", BAD_INPUT)
def test_a_directory_is_read_as_a_whole_or_not_at_all(
    reading: Callable[..., Result], tmp_path: Path, verb: str
) -> None:
    folder = tmp_path / "apps"
    (folder / "deeper").mkdir(parents=True)
    empty = reading(verb, folder)
    assert empty.exit_code == BAD_INPUT[verb]
    assert f"{folder}: must hold a file that ends in .yaml, .yml, .json (directories below it are" in empty.stderr
    (folder / "deeper/gone.yaml").symlink_to(tmp_path / "nowhere")
    dangling = reading(verb, folder, "-R")
    assert dangling.exit_code == BAD_INPUT[verb]
    assert f"{folder}/deeper/gone.yaml: must be readable: No such file or directory" in dangling.stderr


@contextmanager
def somebody() -> Iterator[None]:
    """For root: be nobody for a while, whom the rights of files hold back."""
    if os.geteuid() != 0:
        yield
        return
    os.setresgid(65534, 65534, 0)
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody may look into, with two Deployments, and what is beside it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "apps").mkdir()
    for name in ("a", "b"):
        (folder / f"apps/{name}.yaml").write_text(yaml.safe_dump(a_deployment(name)))
    (folder / "policy.yaml").write_text(yaml.safe_dump(a_policy()))
    yield folder
    shutil.rmtree(folder)


def test_what_may_not_be_read_is_named(public: Path) -> None:
    run("inject", "-p", public / "policy.yaml", public / "apps")  # everything is imported
    (public / "apps/deeper").mkdir()
    for closed, mode in (("apps/a.yaml", 0o000), ("apps/deeper", 0o000)):
        path = public / closed
        before = path.stat().st_mode
        path.chmod(mode)
        with somebody():
            result = run("inject", "-p", public / "policy.yaml", "-R", public / "apps")
        path.chmod(before)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"{path}: must be readable: Permission denied" in result.stderr


@pytest.mark.parametrize("verb", ["inject", "eject", "migrate"])
def test_where_one_file_cannot_be_written_none_is(public: Path, verb: str) -> None:
    apps, fixed = public / "apps", public / "fixed"
    fixed.mkdir()
    apps.chmod(0o777)
    for name, folder in (("a", apps), ("b", fixed)):
        text = OLD_SCHOOL.read_text() if verb == "migrate" else yaml.safe_dump(a_deployment(name))
        (folder / f"{name}.yaml").write_text(text)
    files = [apps / "a.yaml", fixed / "b.yaml"]
    policies: list[str | Path] = ["-p", public / "policy.yaml"] if verb == "inject" else []
    if verb == "eject":
        run("inject", "-p", public / "policy.yaml", "-i", *files)
    before = [each.read_text() for each in files]
    assert run(verb, *policies, "--check", *files).exit_code == 3
    with somebody():
        result = run(verb, *policies, "-i", *files)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"{fixed}/b.yaml: must be writable, with its directory: Permission denied\n1 problem; nothing was written\n"
    )
    assert [each.read_text() for each in files] == before
    assert sorted(each.name for each in apps.iterdir()) == ["a.yaml", "b.yaml"]


def test_a_file_with_the_longest_name_is_written_in_place(
    write: Callable[..., Path], reading: Callable[..., Result]
) -> None:
    path = write("a" * 250 + ".yaml", a_deployment())
    assert reading("inject", "-i", path).exit_code == 0
    assert "initContainers" in path.read_text()


# Standard input


@pytest.mark.parametrize("verb", BAD_INPUT)
def test_standard_input_is_named_once(reading: Callable[..., Result], verb: str) -> None:
    result = reading(verb, "-", "-", text="")
    assert result.exit_code == 2
    assert "standard input can be read only once: name - only once" in result.stderr


@pytest.mark.parametrize("verb", ["inject", "diff"])
def test_policies_may_come_from_standard_input_where_the_manifests_do_not(
    write: Callable[..., Path], verb: str
) -> None:
    app, policy = write("app.yaml", a_deployment()), yaml.safe_dump(a_policy())
    assert "name: proxy" in run(verb, "-p", "-", app, text=policy).stdout
    for arguments in (["-p", "-"], ["-p", "-", "-"]):
        refused = run(verb, *arguments, text=policy)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "standard input can be read only once" in refused.stderr


# Namespaces


def flags_with_a_namespace() -> Iterator[tuple[str, str]]:
    for verb in COMMANDS:
        command = main.get_command(click.Context(main), verb)
        assert command is not None
        for option in command.params:
            if option.name in ("namespace", "operator_namespace"):
                yield from ((verb, flag) for flag in option.opts)


@pytest.mark.parametrize(("verb", "flag"), list(flags_with_a_namespace()))
def test_what_no_namespace_is_called_is_wrong_usage(verb: str, flag: str) -> None:
    for value, says in (
        ("", "an empty name is no namespace: leave the flag out for its default"),
        ("a b", "'a b' is no name of a namespace: "),
        ("UPPER", "did you mean upper?"),
        ("-x", "'-x' is no name of a namespace: "),
        ("a" * 64, "up to 63 lower-case letters"),
    ):
        result = run(verb, flag, value)
        assert (result.exit_code, result.stdout) == (2, "")
        assert says in result.stderr


# Words


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["status", ""], "'' names no policy: it must be NAME"),
        (["list", ""], "'' names no Deployment: it must be NAME"),
        (["undo", "web", "--to-revision="], "--to-revision must not be empty"),
        (["pin", "web", "cart", "--to="], "--to must not be empty"),
        (["list", "pod/cart"], "'pod/cart' names no Deployment: it must be NAME, NAMESPACE/NAME or deployment/NAME"),
        (["explain", "pod/cart"], "'pod/cart' names no Deployment: it must be NAME, NAMESPACE/NAME or deployment/NAME"),
        (["explain", "StatefulSet/cart"], "'StatefulSet/cart' names no Deployment: "),
        (["status", "-o", "xml"], "'xml' is not one of 'text', 'wide', 'json', 'yaml'"),
        (["status", "--wacth"], "No such option '--wacth'. Did you mean '--watch'?"),
        (["-o", "json", "status"], "there is no -o before the verb; if it is a flag of the verb it stands behind it"),
        (["--dry-run", "stop"], "there is no --dry-run before the verb"),
        (["-n"], "name a verb, such as status"),
        (["-A"], "name a verb, such as status"),
    ],
)
def test_words_and_flags_that_say_nothing_are_wrong_usage(arguments: list[str], says: str) -> None:
    result = run(*arguments, *(["--kubeconfig=/does/not/exist"] if arguments[0][0] != "-" else []))
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "has no current-context; name one with --context"),
        ("a:\n\tx", "is no YAML: line 2, column 1: found character that cannot start any token; compare with"),
        ("\0", "is no YAML: "),
        ("[]", "is no kubeconfig: it must be a mapping; compare with `kubectl config view`"),
        ("current-context: x", "has no context 'x'"),
    ],
)
def test_a_kubeconfig_that_leads_nowhere_is_said_in_one_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    result = run("status", "--kubeconfig", path)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: kubeconfig {path}: ")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
