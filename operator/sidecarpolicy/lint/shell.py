"""Shell, read by a grammar (tree-sitter-bash): a small tree of statements for the rules.

Quotes are taken off, variables are put in where their value is known, and what is a script again is read again: the
argument of `trap`, `eval` and `sh -c`, and a heredoc that is fed to a shell. Text that only looks like a command (an
argument of `echo`, a comment, a heredoc that is data) is none.

The parser is imported when the first script is read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

SHELLS = frozenset({"sh", "bash", "ash", "dash", "ksh", "zsh", "busybox"})
_WRAPPERS = {"exec": 0, "command": 0, "nohup": 0, "setsid": 0, "time": 0, "builtin": 0, "stdbuf": 0, "timeout": 1}
"""Commands that run another one, and how many operands of their own come before it."""
_TAKES_VALUE = {"timeout": {"-s", "-k", "--signal", "--kill-after"}, "exec": {"-a"}, "stdbuf": {"-i", "-o", "-e"}}
_MOST_NESTED = 5


class Kind(Enum):
    """What a statement is."""

    COMMAND = auto()
    TEST = auto()
    LOOP = auto()
    BRANCH = auto()
    FUNCTION = auto()
    GROUP = auto()
    LIST = auto()
    PIPELINE = auto()
    NOT = auto()
    ASSIGNMENT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement, at *start* to *end* of its script (characters), in its *line* (from 0).

    *words*: of a command its name and arguments, of a test its operands and operators, of a function its name.
    *condition*: what a loop or a branch asks. *body*: what is inside, substitutions and scripts in arguments too.
    *embedded*: it is inside of an argument, so its place is that of the argument. *bounded*: the loop ends by itself.
    """

    kind: Kind
    start: int
    end: int
    line: int
    words: tuple[str, ...] = ()
    condition: tuple[Statement, ...] = ()
    body: tuple[Statement, ...] = ()
    targets: tuple[str, ...] = ()
    background: bool = False
    until: bool = False
    bounded: bool = False
    embedded: bool = False

    @property
    def name(self) -> str:
        """Return the command that is run, without its directory and without what only wraps it; or an empty string."""
        return base_name(bare[0]) if self.kind is Kind.COMMAND and (bare := unwrapped(self.words)) else ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return the arguments of the command that is run."""
        return unwrapped(self.words)[1:]

    def walk(self) -> Iterator[Statement]:
        """Yield the statement and all inside of it, in the order in which they are written."""
        yield self
        for each in (*self.condition, *self.body):
            yield from each.walk()


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A script: its text and its statements. *readable* is False where the grammar found an error in it."""

    text: str
    statements: tuple[Statement, ...]
    readable: bool = True
    functions: Mapping[str, Statement] = field(default_factory=dict)

    def walk(self) -> Iterator[Statement]:
        """Yield every statement."""
        for each in self.statements:
            yield from each.walk()

    def steps(self) -> Iterator[Step]:
        """Yield what is run one after the other: lists and groups taken apart, functions where they are called."""
        for each in self.statements:
            yield from _steps(each, each, self.functions, ())

    def reached(self) -> Iterator[Statement]:
        """Yield every statement that is run: functions where they are called, and not where they are defined."""
        for step in self.steps():
            yield from self.expand(step.statement)

    def expand(self, statement: Statement, calling: tuple[str, ...] = ()) -> Iterator[Statement]:
        """Yield *statement* and all inside of it, with the bodies of the functions that are called there."""
        for each in statement.walk():
            yield each
            called = each.words[0] if each.kind is Kind.COMMAND and each.words else ""
            if called in self.functions and called not in calling:
                for one in self.functions[called].body:
                    yield from self.expand(one, (*calling, called))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A *statement* that is run, and the *top* level statement that leads to it."""

    statement: Statement
    top: Statement
    background: bool = False


def base_name(word: str) -> str:
    """Return a command without its directory."""
    return word.rpartition("/")[2]


def unwrapped(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command that is run: without `exec`, `timeout 60`, `env A=b` and their kind before it."""
    while words:
        name = base_name(words[0])
        if name in {"env", "tini", "dumb-init", "gosu", "su-exec"}:
            rest = words[1:]
            while rest and (rest[0].startswith("-") or (name == "env" and "=" in rest[0])):
                rest = rest[1:]
            words = rest[1:] if name in {"gosu", "su-exec"} else rest
        elif name in _WRAPPERS:
            rest = _without_options(words[1:], _TAKES_VALUE.get(name, set()))[_WRAPPERS[name] :]
            if not rest:
                return words
            words = rest
        else:
            return words
    return words


def _without_options(words: tuple[str, ...], valued: set[str]) -> tuple[str, ...]:
    while words and words[0].startswith("-"):
        words = words[2:] if words[0] in valued else words[1:]
    return words


def shell_script(argv: tuple[str, ...]) -> int | None:
    """Return which of the words *argv* is the script of a shell, as of `sh -ec 'a; b' name args`; None where none is.

    Options of a shell are grouped (`-euxc`) and may take values (`-o pipefail`).
    """
    skipped = len(argv) - len(unwrapped(argv))
    words = argv[skipped:]
    if not words or base_name(words[0]) not in SHELLS:
        return None
    position = 1
    if base_name(words[0]) == "busybox":
        if len(words) < 2 or words[1] not in SHELLS:
            return None
        position = 2
    found = False
    while position < len(words) and words[position][:1] in {"-", "+"} and words[position] not in {"-", "--"}:
        option = words[position]
        if not option.startswith("--"):
            found = found or "c" in option[1:]
            if option[1:].endswith(("o", "O")):
                position += 1
        position += 1
    if found and position < len(words) and words[position] == "--":
        position += 1
    return skipped + position if found and position < len(words) else None


def parse(text: str, variables: Mapping[str, str] | None = None) -> Script:
    """Return the script *text*; *variables*: what is known of its environment."""
    return _parse(text, dict(variables or {}), 0)


def command_line(argv: tuple[str, ...], variables: Mapping[str, str] | None = None) -> Script:
    """Return the exec form *argv* as a script of one command."""
    inner = _inner(argv, dict(variables or {}), 0, 0)
    one = Statement(kind=Kind.COMMAND, start=0, end=0, line=0, words=argv, body=inner)
    return Script(text="", statements=(one,))


@cache
def _parser() -> Parser:
    import tree_sitter_bash
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_bash.language()))


def _parse(text: str, variables: dict[str, str], depth: int) -> Script:
    data = text.encode()
    root = _parser().parse(data).root_node
    reader = _Reader(data, variables, depth)
    statements = reader.script(root)
    functions = {
        each.words[0]: each for top in statements for each in top.walk() if each.kind is Kind.FUNCTION and each.words
    }
    return Script(text=text, statements=statements, readable=not root.has_error, functions=functions)


def _steps(
    statement: Statement, top: Statement, functions: Mapping[str, Statement], calling: tuple[str, ...]
) -> Iterator[Step]:
    if statement.kind is Kind.FUNCTION:
        return
    if statement.kind in {Kind.LIST, Kind.GROUP} and not statement.background:
        for each in statement.body:
            yield from _steps(each, top, functions, calling)
        return
    called = statement.words[0] if statement.kind is Kind.COMMAND and statement.words else ""
    if called in functions and called not in calling:
        for each in functions[called].body:
            yield from _steps(each, top, functions, (*calling, called))
        return
    yield Step(statement=statement, top=top, background=statement.background)


_COMPOUND = {
    "list": Kind.LIST,
    "pipeline": Kind.PIPELINE,
    "negated_command": Kind.NOT,
    "subshell": Kind.GROUP,
    "compound_statement": Kind.GROUP,
    "do_group": Kind.GROUP,
}
_BRANCHES = frozenset({"if_statement", "case_statement", "elif_clause", "else_clause", "case_item"})
_LOOPS = frozenset({"while_statement", "for_statement", "c_style_for_statement"})


class _Reader:
    """Turns nodes of the grammar into statements."""

    def __init__(self, data: bytes, variables: dict[str, str], depth: int) -> None:
        self.data = data
        self.variables = variables
        self.depth = depth
        self.ascii = data.isascii()
        self.varying: frozenset[str] = frozenset()

    def script(self, root: Node) -> tuple[Statement, ...]:
        """Return the statements of a whole script; a variable that is assigned more than once has no known value."""
        names = Counter(self._assigned(root))
        self.varying = frozenset(name for name, count in names.items() if count > 1)
        for name in self.varying:
            self.variables.pop(name, None)
        return self.block(root)

    def _assigned(self, node: Node) -> Iterator[str]:
        for child in node.named_children:
            if child.type == "variable_assignment" and (name := child.child_by_field_name("name")) is not None:
                yield self._text(name)
            yield from self._assigned(child)

    def block(self, node: Node) -> tuple[Statement, ...]:
        """Return the statements among the children of *node*."""
        found: list[Statement] = []
        for child in node.children:
            if child.type == "&" and found:
                found[-1] = replace(found[-1], background=True)
            elif child.is_named:
                found += self.statement(child)
        return tuple(found)

    def statement(self, node: Node) -> list[Statement]:
        """Return the statement *node*; nothing where it is none."""
        kind = node.type
        if kind in {"command", "declaration_command", "unset_command"}:
            return [self._command(node)]
        if kind == "test_command":
            words = tuple(_split_test(self.word(each)) for each in node.named_children)
            flat = tuple(part for each in words for part in each)
            return [self._made(node, Kind.TEST, words=flat, body=self._substitutions(node))]
        if kind in _LOOPS:
            return [self._loop(node)]
        if kind in _BRANCHES:
            condition = self._conditions(node)
            body = tuple(
                one
                for each in node.named_children
                if each not in node.children_by_field_name("condition")
                for one in self.statement(each)
            )
            return [self._made(node, Kind.BRANCH, condition=condition, body=body)]
        if kind == "function_definition":
            name = node.child_by_field_name("name")
            body_node = node.child_by_field_name("body")
            body = self.block(body_node) if body_node else ()
            return [self._made(node, Kind.FUNCTION, words=(self._text(name) if name else "",), body=body)]
        if kind == "redirected_statement":
            return self._redirected(node)
        if kind in {"variable_assignment", "variable_assignments"}:
            return [self._assignment(node)]
        if kind in _COMPOUND:
            return [self._made(node, _COMPOUND[kind], body=self.block(node))]
        return list(self._substitutions(node)) if kind not in {"comment", "word", "number"} else []

    def _loop(self, node: Node) -> Statement:
        body = node.child_by_field_name("body")
        condition = self._conditions(node)
        return self._made(
            node,
            Kind.LOOP,
            condition=condition,
            body=self.block(body) if body else (),
            until=bool(node.children) and node.children[0].type == "until",
            bounded=node.type != "while_statement",
        )

    def _conditions(self, node: Node) -> tuple[Statement, ...]:
        return tuple(one for each in node.children_by_field_name("condition") for one in self.statement(each))

    def _command(self, node: Node) -> Statement:
        words: list[str] = []
        targets: list[str] = []
        for child in node.named_children:
            if child.type == "variable_assignment" and node.type == "command":
                continue
            if child.type == "file_redirect":
                targets += [self.word(each) for each in child.children_by_field_name("destination")]
            elif child.type == "herestring_redirect":
                continue
            else:
                words.append(self.word(child))
        if node.type != "command":
            words.insert(0, node.children[0].type)
            self._remember(node)
        argv = tuple(words)
        body = (*self._substitutions(node), *self._script_of(node, argv))
        return self._made(node, Kind.COMMAND, words=argv, body=body, targets=tuple(targets))

    def _script_of(self, node: Node, argv: tuple[str, ...]) -> tuple[Statement, ...]:
        return _inner(argv, self.variables, self._line(node), self.depth, self._offset(node.start_byte))

    def _redirected(self, node: Node) -> list[Statement]:
        body = node.child_by_field_name("body")
        found = self.statement(body) if body else []
        targets: list[str] = []
        fed: list[Statement] = []
        for each in node.children_by_field_name("redirect"):
            if each.type == "file_redirect":
                targets += [self.word(to) for to in each.children_by_field_name("destination")]
                fed += self._substitutions(each)
            elif each.type == "heredoc_redirect":
                fed += self._heredoc(each, found)
        if not found:
            return fed
        last = found[-1]
        changed = replace(
            last,
            start=self._offset(node.start_byte),
            end=self._offset(node.end_byte),
            targets=(*last.targets, *targets),
            body=(*last.body, *fed),
        )
        return [*found[:-1], changed]

    def _heredoc(self, node: Node, before: list[Statement]) -> list[Statement]:
        """What a heredoc feeds: a script where it goes to a shell."""
        after = [
            one
            for each in node.named_children
            if each.type not in {"heredoc_start", "heredoc_body", "heredoc_end", "file_redirect"}
            for one in self.statement(each)
        ]
        text = next((self._text(each) for each in node.named_children if each.type == "heredoc_body"), "")
        readers = [each for one in (*before, *after) for each in one.walk() if each.name in SHELLS]
        if any(shell_script(unwrapped(each.words)) is None for each in readers) and self.depth < _MOST_NESTED:
            inner = _parse(text, self.variables, self.depth + 1).statements
            after += [_embedded(each, self._line(node) + 1, self._offset(node.start_byte)) for each in inner]
        return after

    def _assignment(self, node: Node) -> Statement:
        self._remember(node)
        return self._made(node, Kind.ASSIGNMENT, words=(self._text(node),), body=self._substitutions(node))

    def _remember(self, node: Node) -> None:
        assigned = [node] if node.type == "variable_assignment" else node.named_children
        for each in assigned:
            if each.type != "variable_assignment":
                continue
            name, value = each.child_by_field_name("name"), each.child_by_field_name("value")
            if name is not None and self._text(name) not in self.varying:
                self.variables[self._text(name)] = self.word(value) if value else ""

    def _substitutions(self, node: Node) -> tuple[Statement, ...]:
        """Return the statements in command and process substitutions anywhere below *node*."""
        found: list[Statement] = []
        for child in node.named_children:
            if child.type in {"command_substitution", "process_substitution"}:
                found += self.block(child)
            elif child.type not in {"heredoc_body"}:
                found += self._substitutions(child)
        return tuple(found)

    def word(self, node: Node) -> str:
        """Return what a word stands for: without quotes, with the variables that are known."""
        kind = node.type
        if kind == "raw_string":
            return self._text(node)[1:-1]
        if kind == "ansi_c_string":
            return self._text(node)[2:-1]
        if kind in {"string", "concatenation", "command_name", "translated_string"}:
            return self._joined(node, quoted=kind == "string")
        if kind == "simple_expansion":
            return self.variables.get(self._text(node)[1:], self._text(node))
        if kind == "expansion":
            return self._expansion(node)
        if kind == "word":
            return re.sub(r"\\(.)", r"\1", self._text(node), flags=re.DOTALL).replace("\\\n", "")
        if kind == "string_content":
            return re.sub(r"\\([$`\"\\\n])", r"\1", self._text(node))
        if kind in {"unary_expression", "binary_expression", "parenthesized_expression", "negation_expression"}:
            return self._joined(node, between="\0")
        return self._text(node)

    def _joined(self, node: Node, *, quoted: bool = False, between: str = "") -> str:
        """The parts one after the other; what the grammar leaves out between them (blanks in strings) as written."""
        if between:
            return between.join(self.word(each) if each.is_named else self._text(each) for each in node.children)
        if not quoted:
            return "".join(self.word(each) for each in node.named_children)
        position, parts = node.start_byte + 1, []
        for each in node.named_children:
            parts += [self.data[position : each.start_byte].decode(errors="replace"), self.word(each)]
            position = each.end_byte
        return "".join(parts) + self.data[position : node.end_byte - 1].decode(errors="replace")

    def _expansion(self, node: Node) -> str:
        text = self._text(node)
        match = re.fullmatch(r"\$\{(\w+)(?::?-(.*))?\}", text, flags=re.DOTALL)
        if not match:
            return text
        name, default = match.groups()
        return self.variables.get(name, text if default is None else default.strip("\"'"))

    def _made(
        self,
        node: Node,
        kind: Kind,
        *,
        words: tuple[str, ...] = (),
        condition: tuple[Statement, ...] = (),
        body: tuple[Statement, ...] = (),
        targets: tuple[str, ...] = (),
        until: bool = False,
        bounded: bool = False,
    ) -> Statement:
        return Statement(
            kind=kind,
            start=self._offset(node.start_byte),
            end=self._offset(node.end_byte),
            line=self._line(node),
            words=words,
            condition=condition,
            body=body,
            targets=targets,
            until=until,
            bounded=bounded,
        )

    def _text(self, node: Node) -> str:
        return self.data[node.start_byte : node.end_byte].decode(errors="replace")

    def _offset(self, byte: int) -> int:
        return byte if self.ascii else len(self.data[:byte].decode(errors="replace"))

    @staticmethod
    def _line(node: Node) -> int:
        return node.start_point.row


def _split_test(word: str) -> tuple[str, ...]:
    return tuple(part for part in word.split("\0") if part)


def _inner(
    argv: tuple[str, ...], variables: dict[str, str], line: int, depth: int, start: int = 0
) -> tuple[Statement, ...]:
    """The statements of the script that is an argument of *argv*: of a shell, of trap, of eval."""
    if depth >= _MOST_NESTED:
        return ()
    place = shell_script(argv)
    words = unwrapped(argv)
    name = base_name(words[0]) if words else ""
    if place is not None:
        text = argv[place]
    elif name == "trap" and len(words) > 2 and words[1] not in {"-", ""} and not words[1].startswith("-"):
        text = words[1]
    elif name == "eval":
        text = " ".join(words[1:])
    else:
        return ()
    inner = _parse(text, dict(variables), depth + 1)
    return tuple(_embedded(each, line, start) for each in inner.statements)


def _embedded(statement: Statement, line: int, start: int) -> Statement:
    return replace(
        statement,
        embedded=True,
        line=statement.line + line,
        start=start,
        end=start,
        condition=tuple(_embedded(each, line, start) for each in statement.condition),
        body=tuple(_embedded(each, line, start) for each in statement.body),
    )


def commands(statements: Iterable[Statement]) -> Iterator[Statement]:
    """Yield every command among and inside of *statements*."""
    for each in statements:
        yield from (one for one in each.walk() if one.kind is Kind.COMMAND)
