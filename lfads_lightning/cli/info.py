"""``lfads info``: versions, hardware and a summary of a run, to paste into a bug report."""

from collections.abc import Sequence
from dataclasses import dataclass

from lfads_lightning.cli.options import Parser
from lfads_lightning.cli.programs import command
from lfads_lightning.commands import option

DESCRIPTION = (
    "Print versions and hardware and, if a run is given, its sizes, settings, scores and warnings, "
    "to paste into a bug report. It contains no paths, no session names and no data."
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which run to summarise."""

    run: str | None = option(
        None,
        doc="folder of a run, a sweep or a search, or its address in a bucket",
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
