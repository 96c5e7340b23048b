"""``lfads info``: versions, machine and what a run is like, to be pasted into an issue."""

from collections.abc import Sequence
from dataclasses import dataclass

from lfads_lightning.cli.options import Parser
from lfads_lightning.cli.programs import command
from lfads_lightning.commands import option

DESCRIPTION = (
    "Print versions and machine and, of a run, sizes, settings, scores and findings, to be pasted "
    "into an issue. No paths, no names of sessions and nothing of the data are in it."
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Whose summary."""

    run: str | None = option(
        None,
        doc="the folder of a run, a sweep or a search, or its address in a bucket",
        metavar="RUN",
        positional=True,
    )


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lfads info ...``; a user's mistake ends with one line."""
    options = Options(**Parser("info", DESCRIPTION, Options).given(argv))
    # torch is imported once the command line is known to be right
    from lfads_lightning.report.summary import as_text, of_machine, of_run
    from lfads_lightning.runs.run import Run

    run = None if options.run is None else of_run(Run.open(options.run))
    print(as_text(of_machine()))
    if run is not None:
        print(f"\n{as_text(run)}")
