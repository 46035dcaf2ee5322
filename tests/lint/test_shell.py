"""Shell is read as a shell reads it: what is run is found however it is written, and text is no command."""

from __future__ import annotations

import pytest

from sidecarpolicy.lint.shell import parse, shell_script


@pytest.mark.parametrize(
    ("argv", "place"),
    [
        (("sh", "-c", "x"), 2),
        (("/bin/sh", "-ec", "x", "name", "arg"), 2),
        (("bash", "-euo", "pipefail", "-c", "x"), 4),
        (("timeout", "60", "sh", "-c", "x"), 4),
        (("env", "A=b", "bash", "--login", "-c", "x"), 5),
        (("tini", "--", "busybox", "sh", "-c", "x"), 5),
        (("sh", "script.sh", "-c"), None),
        (("python", "-c", "x"), None),
        (("sh", "-c"), None),
        ((), None),
    ],
)
def test_the_script_of_a_shell_is_found_among_its_words(argv: tuple[str, ...], place: int | None) -> None:
    assert shell_script(argv) == place


@pytest.mark.parametrize(
    "script",
    [
        "curl localhost:1",
        "set -e; curl localhost:1",
        "true && curl 'localhost:1' || exit 1",
        'HOST=localhost; curl "$HOST:1"',
        'curl "${HOST:-localhost}:1"',
        "until curl localhost:1; do sleep 1; done",
        "if ! curl localhost:1\nthen exit 1\nfi",
        "ask() {\n  curl localhost:1\n}\nask",
        "trap 'curl localhost:1' EXIT",
        "finish() { curl localhost:1; }; trap finish EXIT",
        "sh -c 'curl localhost:1'",
        "bash -ec \"sh -c 'curl localhost:1'\"",
        "eval curl localhost:1",
        "sh <<X\ncurl localhost:1\nX\n",
        "cat <<X | sh\ncurl localhost:1\nX\n",
        "echo $(curl localhost:1)",
        "[ `curl localhost:1` = ok ]",
        "(sleep 1; curl localhost:1) &",
        "case $x in a) curl localhost:1;; esac",
        "for i in 1 2; do curl localhost:1; done",
        "curl \\\n  localhost:1",
    ],
)
def test_a_command_is_found_however_it_is_written(script: str) -> None:
    read = parse(script)
    assert read.readable
    assert [(each.name, each.arguments) for each in read.reached() if each.name == "curl"] == [
        ("curl", ("localhost:1",))
    ]


@pytest.mark.parametrize(
    "script",
    [
        "# curl localhost:1",
        "echo curl localhost:1",
        "echo 'x; curl localhost:1'",
        "cat > /help <<'X'\ncurl localhost:1\nX\n",
        "never() { curl localhost:1; }\napp",
        "NOTE='curl localhost:1' app",
    ],
)
def test_text_is_no_command(script: str) -> None:
    assert not [each for each in parse(script).reached() if each.name == "curl"]


def test_a_statement_knows_its_line_its_place_and_whether_it_runs_in_the_background() -> None:
    script = parse("ä=1\nproxy &\nsleep 5\n")
    _, proxy, sleep = script.statements
    assert (proxy.line, proxy.background, sleep.line, sleep.background) == (1, True, 2, False)
    assert script.text[sleep.start : sleep.end] == "sleep 5"


def test_a_variable_that_is_assigned_more_than_once_has_no_known_value() -> None:
    (*_, command) = parse("A=1\nA=2\ncurl localhost:$A").statements
    assert command.arguments == ("localhost:$A",)


def test_what_the_grammar_cannot_read_says_so() -> None:
    assert not parse("until curl localhost:1; do").readable
