"""``lfads report``: write the report of a run, a sweep or a search again."""

from collections.abc import Sequence
from dataclasses import dataclass

from lfads_lightning.cli.options import Parser
from lfads_lightning.cli.programs import command
from lfads_lightning.commands import option
from lfads_lightning.runs.names import FIGURES, REPORT

DESCRIPTION = (
    f"Write {REPORT} and {FIGURES}/ of a run, a sweep or a search again. Uses the files in its "
    "folder and, if they are still there, its data."
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which report to write, and where the data are."""

    folder: str = option(
        doc="folder of the run, sweep or search, or its address in a bucket",
        metavar="FOLDER",
        positional=True,
    )
    data_dir: str | None = option(
        None, "folder of the run's data, if they have moved", metavar="PATH"
    )


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lfads report ...``; a user's mistake ends with one line."""
    options = Options(**Parser("report", DESCRIPTION, Options).given(argv))
    # numpy and h5py are imported once the command line is known to be right
    from lfads_lightning.report.write_report import write_report
    from lfads_lightning.runs.run import Run

    run = Run.open(options.folder)
    with run.mirrored():
        path = write_report(run.folder, options.data_dir)
    print(f"Report: {path}")
