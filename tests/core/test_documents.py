"""The pages that people read: what they name exists, what exists is named, and every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from deploy.site import links
from sidecarpolicy import names
from sidecarpolicy.cli.main import COMMANDS, behind_the_verb, main
from sidecarpolicy.manifests import parse
from tests.builders import a_deployment

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKING = [*PAGES, ROOT / "deploy/README.md", ROOT / "deploy/examples/README.md"]
# What others run for us: workflows and hooks of commits.
RUNS = [ROOT / ".pre-commit-config.yaml", *sorted((ROOT / ".github/workflows").glob("*.yml"))]
TROUBLESHOOTING = ROOT / "docs/troubleshooting.md"

WITH_REASONS = (
    *("admission", "cli", "concepts", "gitops", "guarantees", "owners", "reference", "security", "status"),
    *("troubleshooting", "uninstall"),
)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!`)\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")


def identity(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of *page* in any of *languages*."""
    return [text for language, text in FENCE.findall(page.read_text()) if language in languages]


def section(page: Path, heading: str) -> str:
    """What is below `## heading`, up to the next heading of its rank."""
    _, found, rest = page.read_text().partition(f"\n## {heading}\n")
    assert found, heading
    return rest.partition("\n## ")[0]


def first_words(text: str) -> list[str]:
    """What stands in code in the first column of the tables in *text*."""
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


# What the product says, and where people look it up


REASONS: dict[str, Iterable[str]] = {
    "Status": set(names.Reason) - {names.Reason.ACCEPTED},
    "Why a Deployment is skipped": set(names.SkipReason),
    "Why a Deployment has failed": {names.REFUSED, names.Reason.FIELD_CONFLICT, "ProgressDeadlineExceeded"},
    "Warnings": set(names.WarningReason),
    "Events": set(names.EventReason),
}
"""What the product says, by the heading under which it is looked up."""


@pytest.mark.parametrize("heading", REASONS)
def test_troubleshooting_has_a_line_for_every_reason_and_for_no_other(heading: str) -> None:
    assert sorted(first_words(section(TROUBLESHOOTING, heading))) == sorted(map(str, REASONS[heading]))


@pytest.mark.parametrize("heading", REASONS)
def test_every_line_of_troubleshooting_says_what_to_do(heading: str) -> None:
    rows = [line for line in section(TROUBLESHOOTING, heading).splitlines() if line.startswith("| `")]
    assert [row for row in rows if not row.removesuffix(" |").rpartition(" | ")[2].strip()] == []


@pytest.mark.parametrize("name", WITH_REASONS)
def test_every_reason_in_the_documents_exists(name: str) -> None:
    text = (ROOT / f"docs/{name}.md").read_text()
    known = {
        *names.SkipReason, *names.WarningReason, *names.Reason, *names.EventReason, *names.Role, *names.Position,
        *names.Startup, *names.PodReadiness, *names.Strategy, *names.OnFailure, *names.DeletionPolicy,
        *names.Approval, *names.Removal, *names.OptOut, names.REFUSED,
    }  # fmt: skip
    of_kubernetes = {"True", "False", "Unknown", "Recreate", "In", "NotIn", "Exists", "DoesNotExist", "None", "All"}
    of_kubernetes |= {"ProgressDeadlineExceeded", "ImagePullBackOff", "CrashLoopBackOff", "ContainerResource"}
    of_kubernetes |= {"Ignore", "Fail", "Init", "ContainersReady"}
    of_others = {"Current", "Failed", "Progressing", "Suspended", "Degraded", "Healthy", "InProgress", "Replace"}
    ours = {"Accepted", "Ready", "Reconciling", "Stalled", names.POLICY, names.CLUSTER_POLICY}
    named = set(re.findall(r"`([A-Z][a-z]+[A-Za-z]*)`", text))
    assert named <= known | of_kubernetes | of_others | ours


# What people type


def sidecarpolicy_commands(page: Path) -> Iterator[list[str]]:
    """The arguments of every `sidecarpolicy …` on *page*, in blocks and in text."""
    lines = [line.removeprefix("$ ") for block in blocks(page, "sh", "console") for line in block.splitlines()]
    outside = FENCE.sub("", page.read_text())
    lines += [span.replace("\\|", "|") for span in SPAN.findall(outside)]
    for line in lines:
        for part in re.split(r"\s[|&;]+\s|<\(|\)$", line):
            if part.strip().startswith("sidecarpolicy "):
                words = shlex.split(part.strip().partition(" #")[0])
                yield [word for word in words[1:] if not word.startswith((">", "<"))]


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_every_verb_and_option_in_the_documents_exists(page: Path) -> None:
    for words in sidecarpolicy_commands(page):
        verb, *rest = behind_the_verb(words)
        if verb.startswith("-") or not verb.isalpha():
            continue  # `sidecarpolicy --help`, `sidecarpolicy web-…`
        assert verb in COMMANDS, words
        command = main.get_command(click.Context(main), verb)
        assert command is not None
        known = {spelt for each in command.params for spelt in (*each.opts, *each.secondary_opts)} | {"--help"}
        options = {word.partition("=")[0] for word in rest if re.match(r"--?[a-zA-Z]", word)}
        assert options <= known, words


@pytest.mark.parametrize("page", [*PAGES, *RUNS], ids=identity)
def test_every_target_of_make_that_is_typed_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^\s*|run: |entry: )make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= targets


def test_a_hook_of_commits_runs_what_make_check_runs() -> None:
    (check,) = re.findall(r"^check: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    command = r"/([\w-]+(?: (?:-m )?[\w./]+)?)"
    known = set(re.findall(re.escape("$(BIN)") + command, check))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    run = {each for hook in hooks for each in re.findall(re.escape(".venv/bin") + command, hook["entry"])}
    assert run == {each for each in known if not each.startswith("mypy")}  # which takes too long for a commit


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_every_manifest_in_the_documents_is_yaml(page: Path) -> None:
    for block in blocks(page, "yaml"):
        assert list(yaml.safe_load_all(block))


@pytest.mark.parametrize("name", ["README.md", "docs/index.md"])
def test_the_first_policy_does_what_the_page_says(name: str, tmp_path: Path) -> None:
    (block,) = blocks(ROOT / name, "yaml")
    (tmp_path / "policy.yaml").write_text(block)
    (tmp_path / "app.yaml").write_text(yaml.safe_dump(a_deployment("hello", "default")))
    arguments = ["inject", "-p", str(tmp_path / "policy.yaml"), str(tmp_path / "app.yaml")]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    (written,) = parse(result.stdout, "injected").documents
    assert isinstance(written.value, dict)
    (sidecar,) = written.value["spec"]["template"]["spec"]["initContainers"]
    assert sidecar["name"] == "statsd"
    assert "warning" not in result.stderr


# Links


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of *page*, as code hosts and the site's builder make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", LINKING, ids=identity)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue  # another site
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


# The site


def test_the_sites_navigation_has_every_page_once() -> None:
    named = re.findall(
        r"^ +- (?:[^:\n]+: )?(\S+\.md)$|^- [^:\n]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE
    )
    pages = sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))
    assert sorted(first or second for first, second in named) == pages


class Of:
    """A page, as mkdocs hands it to a hook."""

    def __init__(self, path: str) -> None:
        self.file = self
        self.src_uri = path


@pytest.mark.parametrize(
    ("path", "link", "hosted"),
    [
        ("install.md", "../deploy/README.md#a", "https://code.test/x/blob/main/deploy/README.md#a"),
        ("results/simulation.md", "../../tests/simulation", "https://code.test/x/tree/main/tests/simulation"),
        ("performance.md", "results/scale", "https://code.test/x/tree/main/docs/results/scale"),
        ("results/simulation.md", "../status.md#x", "../status.md#x"),
    ],
)
def test_a_link_out_of_the_site_leads_to_where_the_code_is(
    monkeypatch: pytest.MonkeyPatch, path: str, link: str, hosted: str
) -> None:
    monkeypatch.setenv("REPO_URL", "https://code.test/x/")
    assert links.on_page_markdown(f"see [that]({link}).", Of(path)) == f"see [that]({hosted})."
    assert links.on_page_markdown(f"see [1].\n\n[1]: {link}\n", Of(path)) == f"see [1].\n\n[1]: {hosted}\n"


def test_a_link_out_of_the_site_is_its_text_where_nobody_knows_where_the_code_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("REPO_URL", raising=False)
    assert links.on_page_markdown("see [that](../SECURITY.md).", Of("install.md")) == "see that."
    assert links.on_page_markdown("see [1].\n\n[1]: ../SECURITY.md\n", Of("install.md")) == "see [1].\n\n\n"


def test_a_link_to_a_file_that_is_not_there_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    links.on_page_markdown("see [that](../NOTHING.md).", Of("install.md"))
    assert "install.md links to NOTHING.md" in caplog.text


def test_a_bar_in_code_in_a_table_is_one_on_the_site_too() -> None:
    page = "| `a\\|b` | c \\| d |\n\n`e\\|f`\n"
    assert links.on_page_markdown(page, Of("cli.md")) == "| `a|b` | c \\| d |\n\n`e\\|f`\n"
