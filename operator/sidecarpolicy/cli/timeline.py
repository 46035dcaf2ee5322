"""`sidecarpolicy timeline`: one Pod's life, in the terminal or as a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from sidecarpolicy.cli import sources
from sidecarpolicy.cli.asking import Asked, asks_cluster
from sidecarpolicy.cli.manifests import BadInput
from sidecarpolicy.cli.timeline_input import Subject, from_cluster, from_files, witness_from
from sidecarpolicy.core.timeline import Timeline, pod_timeline, witness_timeline

FORMATS = ("text", "svg", "html", "json")


@click.command(
    epilog="Exit codes: 0 drawn, 1 no such Pod, or input that cannot be used, with nothing printed, 2 wrong usage."
)
@click.argument("pod", required=False, default="")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
    metavar="FILE|-",
    help="Read the Pod and its Events from here instead of a cluster; may be repeated.",
)
@click.option(
    "--witness",
    "witnesses",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Exact times: what the containers wrote down themselves (docs/timeline.md); may be repeated.",
)
@click.option("-o", "--output", type=click.Choice(FORMATS), help="Default: text, or what the ending of --to says.")
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write it there.")
@asks_cluster
def timeline(
    asked: Asked,
    pod: str,
    files: tuple[Path, ...],
    witnesses: tuple[Path, ...],
    output: str | None,
    to: Path | None,
) -> None:
    """Draw when each container of a Pod started, was ready and stopped, and who waited for whom.

    \b
    A Pod of a cluster (pod/NAME will do), or one that was saved:
      sidecarpolicy timeline cart-7c9d -n shop
      sidecarpolicy timeline cart-7c9d -n shop -o html --to cart.html
      kubectl get pod,events -n shop -o yaml | sidecarpolicy timeline cart-7c9d -f -

    \b
    A whole life, with its end (a Pod that is gone says nothing any more):
      kubectl get pod cart-7c9d -n shop -o yaml --watch --show-managed-fields >life.yaml
      kubectl get events -n shop -o yaml >events.yaml
      sidecarpolicy timeline -f life.yaml -f events.yaml

    What Kubernetes does not record is drawn as a range, not guessed.
    """
    if not pod and not files and not witnesses:
        raise click.UsageError("name a POD, or a file: -f FILE or --witness FILE")
    if files and (asked.context or asked.kubeconfig):
        raise click.UsageError("-f reads files and asks no cluster: leave out --context and --kubeconfig")
    sources.refuse_two_stdins(files)
    try:
        subject = _subject(asked, pod, files)
        drawn = _timeline(subject, witnesses)
    except BadInput as error:
        sources.give_up(error, exit_code=1)
    chosen = output or (to.suffix.removeprefix(".") if to and to.suffix.removeprefix(".") in FORMATS else "text")
    if chosen == "text":
        _show(drawn, to)
        return
    text = _writer(chosen)(drawn)
    if to is None:
        click.echo(text, nl=False)
    else:
        _write(to, text)


def _subject(asked: Asked, pod: str, files: tuple[Path, ...]) -> Subject | None:
    """The Pod; None where a witness is to do alone."""
    if files:
        return from_files(files, pod.removeprefix("pod/"), asked.chosen)
    return from_cluster(asked, pod) if pod else None


def _timeline(subject: Subject | None, witnesses: tuple[Path, ...]) -> Timeline:
    witness = witness_from(witnesses) if witnesses else None
    if subject is not None:
        return pod_timeline(subject.states, subject.events, now=subject.now, witness=witness)
    if witness is None:
        raise click.UsageError("name a POD or a FILE")
    return witness_timeline(witness, source=", ".join(path.name for path in witnesses))


def _writer(chosen: str) -> Callable[[Timeline], str]:
    match chosen:
        case "svg":
            from sidecarpolicy.cli.timeline_svg import svg_of

            return svg_of
        case "html":
            from sidecarpolicy.cli.timeline_html import html_of

            return html_of
    from sidecarpolicy.cli.timeline_json import json_of

    return json_of


def _show(drawn: Timeline, to: Path | None) -> None:
    from rich.console import Console

    from sidecarpolicy.cli.timeline_text import show

    if to is None:
        show(drawn, Console(highlight=False))
        return
    try:
        with to.open("w", encoding="utf-8") as file:
            show(drawn, Console(file=file, highlight=False, width=120))
    except OSError as error:
        raise click.ClickException(f"{to}: {error.strerror}") from error


def _write(to: Path, text: str) -> None:
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{to}: {error.strerror}") from error
