"""From command-line arguments to results: reads the files, applies one decision to every Deployment, reports.

Nothing is printed before everything is known to be good, so a pipeline never applies half of an answer; and every
problem of every file is told at once.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from sidecarpolicy.cli import sources
from sidecarpolicy.cli.deployments import Manifest, is_deployment, is_dropped, is_patch, manifest_from
from sidecarpolicy.cli.locating import located
from sidecarpolicy.cli.manifests import is_stdin, json_of, stream_of, write_all, yaml_of
from sidecarpolicy.cli.namespace_name import namespace_name
from sidecarpolicy.cli.offline import Did, Note, Result
from sidecarpolicy.cli.policies import Given, given, namespace_warnings, policy_warnings
from sidecarpolicy.cli.rewriting import Rewritten, rewritten
from sidecarpolicy.cli.schema import shape_problems
from sidecarpolicy.core.tree import at
from sidecarpolicy.manifests import BadInput, File, Object, without_collector
from sidecarpolicy.names import WarningReason

Decorated = TypeVar("Decorated", bound=Callable[..., object])
Value = TypeVar("Value")
Parameters = ParamSpec("Parameters")

CHANGES_NEEDED = 3

ALWAYS_SO = (WarningReason.REQUESTS_CHANGE,)
"""Warnings that nearly every Deployment gets: told in one line, not one for each."""


def policies_option(command: Decorated) -> Decorated:
    """Add `-p`, the policies."""
    return click.option(
        "-p",
        "--policy",
        "policy_paths",
        metavar="FILE|DIR|-",
        type=sources.PATHS,
        multiple=True,
        required=True,
        help="A file or directory with SidecarPolicies and ClusterSidecarPolicies; may be repeated.",
    )(command)


def namespace_option(command: Decorated) -> Decorated:
    """Add `-n`, the namespace of manifests without one."""
    return click.option(
        "-n",
        "--namespace",
        callback=namespace_name,
        metavar="NAME",
        default="default",
        show_default=True,
        help="The namespace of Deployments and policies that name none.",
    )(command)


def output_options(command: Decorated) -> Decorated:
    """Add `-o`, `-i` and `--check`: where the manifests go."""
    output = click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "yaml", "json"]),
        default="text",
        show_default=True,
        help="text: as they are written, comments and all; yaml, json: laid out anew, as kubectl prints them.",
    )
    in_place = click.option(
        "-i", "--in-place", is_flag=True, help="Write changed manifests back to their files instead of printing all."
    )
    check = click.option(
        "--check", is_flag=True, help="Print no manifest and exit with 3 where one would change; for pipelines."
    )
    return output(in_place(check(command)))


def in_one_go(command: Callable[Parameters, Value]) -> Callable[Parameters, Value]:
    """Run *command* without the cycle collector: it ends soon, and what it reads is needed till then."""

    @wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Value:
        with without_collector():
            try:
                return command(*args, **kwargs)
            finally:
                gc.freeze()  # or the collector would look at all of it once more, at the very end

    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What was read, what becomes of it, and what is to be told besides the results."""

    files: Sequence[File]
    rewritten: Sequence[Rewritten]
    results: Sequence[Result]
    remarks: Sequence[str] = ()


def with_policies(
    files: Sequence[File],
    policy_files: Sequence[File],
    decide: Callable[[Manifest, Given], Result],
    *,
    namespace: str,
) -> tuple[Batch, Given]:
    """Return what *decide* makes of every Deployment; raise BadInput with all problems of all files."""
    problems = sources.Problems()
    decided_by = problems.of(given, policy_files, files, default_namespace=namespace)
    if decided_by is None:
        problems.of(transform, files, _as_it_is, namespace=namespace)
        problems.settle()
    assert decided_by is not None, "otherwise there are problems"
    by = decided_by
    return transform(files, lambda manifest: decide(manifest, by), namespace=namespace), by


def _as_it_is(manifest: Manifest) -> Result:
    return Result(manifest=manifest, body=manifest.body, concerned=False)


def transform(files: Sequence[File], decide: Callable[[Manifest], Result], *, namespace: str) -> Batch:
    """Return *files* with every Deployment as *decide* has it; raise BadInput with the problems of all of them."""
    results: list[Result] = []
    remarks: list[str] = []
    rewrites: list[Rewritten] = []
    problems = sources.Problems()
    for file in files:
        of_file = problems.of(_decided, file, decide, namespace, remarks)
        if of_file is None or problems.found:
            continue
        results += of_file
        rewrites += filter(None, [problems.of(rewritten, file, of_file)])
    problems.settle()
    return Batch(files=files, rewritten=rewrites, results=results, remarks=remarks)


def _decided(file: File, decide: Callable[[Manifest], Result], namespace: str, remarks: list[str]) -> list[Result]:
    results: list[Result] = []
    problems = sources.Problems()
    for found in file.objects():
        if is_dropped(found):
            remarks.append(
                f"{found.place}: passed through: Deployment of {found.api_version}, which Kubernetes 1.16 stopped "
                "serving; write apps/v1"
            )
        if not is_deployment(found):
            continue
        result = problems.of(_one, found, decide, namespace)
        if isinstance(result, Result):
            results.append(result)
        elif result:
            remarks.append(result)
    problems.settle()
    return results


def _one(found: Object, decide: Callable[[Manifest], Result], namespace: str) -> Result | str:
    """Return what becomes of a Deployment, or why it is none of ours to change."""
    if is_patch(found.value):
        return f"{found.place}: passed through: a Deployment without template or containers is a patch"
    manifest = manifest_from(found, namespace)
    try:
        return decide(manifest)
    except (AttributeError, KeyError, TypeError, ValueError):
        # What the core takes for granted the API server has checked; a file comes unchecked.
        wrong = shape_problems(at(manifest.template, "spec"), "spec.template.spec")
        if not wrong:
            raise
        raise BadInput([located(found, problem) for problem in wrong]) from None


# What is printed


def hand_out(batch: Batch, *, output: str, in_place: bool, check: bool) -> None:
    """Print the manifests, or write them back, or neither where only is to be checked."""
    if check:
        return
    if in_place:
        try:
            write_all((Path(each.file.source), each.text) for each in batch.rewritten if each.is_changed)
        except BadInput as error:
            sources.give_up(error, exit_code=1, nothing_was="written")
        return
    if output == "text":
        # As bytes: no system turns the line breaks of a manifest into its own.
        click.echo(stream_of(batch.files, [each.text for each in batch.rewritten]).encode(), nl=False)
        return
    bodies = [body for each in batch.rewritten for body in each.bodies]
    click.echo(json_of(bodies) if output == "json" else yaml_of(*bodies), nl=False)


def refuse_wrong_use(paths: Sequence[Path], *, output: str, in_place: bool) -> None:
    """Raise UsageError where options exclude each other."""
    if in_place and (not paths or any(map(is_stdin, paths))):
        raise click.UsageError("--in-place needs files or directories: standard input cannot be written back")
    if in_place and output != "text":
        raise click.UsageError("--in-place keeps what is written; it does not go with --output yaml or json")


def leave(batch: Batch, *, check: bool) -> None:
    """End with 3 where *check* is asked for and something would change."""
    if check and any(result.changed for result in batch.results):
        raise SystemExit(CHANGES_NEEDED)


def report(batch: Batch, *, verb: str, untouched: str = "not selected") -> None:
    """Tell on standard error what was done with each Deployment, and sum up."""
    lines = list(batch.remarks)
    always: dict[str, list[tuple[Result, Note]]] = {}
    for result in batch.results:
        for note in result.notes:
            if note.did is Did.WARNING and note.reason in ALWAYS_SO:
                always.setdefault(note.reason, []).append((result, note))
            else:
                lines.append(f"{result.manifest.workload.id}: {note.did} {note.text}")
    lines += (_summed_up(reason, found) for reason, found in always.items())
    counts = Counter(_fate(result, verb, untouched) for result in batch.results)
    parts = [f"{counts[word]} {word}" for word in (verb, "unchanged", "skipped", untouched) if counts[word]]
    total = f"{_counted(len(batch.results))}: {', '.join(parts)}"
    sources.tell([*lines, total if parts else sources.without("Deployment to change", batch.files)])


def _summed_up(reason: str, found: Sequence[tuple[Result, Note]]) -> str:
    result, note = found[0]
    concerned = {str(each.manifest.workload.id) for each, _ in found}
    if len(concerned) == 1:
        return f"{result.manifest.workload.id}: {note.did} {note.text}"
    texts = {each.text.removeprefix(f"{reason}: ") for _, each in found}
    said = texts.pop() if len(texts) == 1 else f"such as {result.manifest.workload.id}: {min(texts, key=len)}"
    return f"{_counted(len(concerned))}: {note.did} {reason}: {said}"


def _counted(number: int) -> str:
    return "1 Deployment" if number == 1 else f"{number} Deployments"


def _fate(result: Result, verb: str, untouched: str) -> str:
    if not result.concerned:
        return untouched
    if result.changed:
        return verb
    return "skipped" if any(note.did is Did.SKIPPED for note in result.notes) else "unchanged"


def warn(decided_by: Given, files: Sequence[File], results: Sequence[Result]) -> None:
    """Tell on standard error what is odd about the policies and namespaces."""
    sources.tell(warnings(decided_by, files, results))


def warnings(decided_by: Given, files: Sequence[File], results: Sequence[Result]) -> list[str]:
    """Return what is odd about the policies and namespaces."""
    lines = [
        f"{about}: warning {reason}: {message}"
        for about, reason, message in (*policy_warnings(decided_by), *namespace_warnings(files))
    ]
    used = {result.manifest.workload.id.namespace for result in results}
    lines += (
        f"namespace {name}: its labels are not known, so a ClusterSidecarPolicy may select more in the cluster: "
        "add the Namespace to the manifests"
        for name in decided_by.guessed_namespaces(used)
    )
    if results and not any(result.concerned for result in results):
        reached = sorted({policy.namespace for policy in decided_by.policies if policy.namespace})
        own = f"; SidecarPolicies reach {', '.join(reached)} only" if reached else ""
        lines.append(
            f"no policy selects a Deployment: these are in {', '.join(sorted(used))}{own} "
            "(manifests without a namespace get that of --namespace); selectors look at the labels of Pod templates"
        )
    return lines


def notes_json(notes: Iterable[Note]) -> list[dict[str, Any]]:
    """Return notes as `-o json` prints them."""
    return [{"did": note.did.value, "reason": str(note.reason), "text": note.text} for note in notes]
