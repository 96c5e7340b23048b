"""``lfads export``: write results as NWB, MATLAB or NumPy files, or as a submission to the NLB."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lfads_lightning.cli.options import Parser
from lfads_lightning.cli.programs import command
from lfads_lightning.commands import option
from lfads_lightning.config import EXPORT_FORMATS
from lfads_lightning.runs.names import RESULTS

DESCRIPTION = f"""\
Write the results of a run ({RESULTS}_*.h5) as NWB, MATLAB or NumPy files, or as a submission file
for the Neural Latents Benchmark (nlb)."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of :func:`lfads_lightning.export`."""

    run: str | Path = option(
        doc="folder of a run, or one of its result files", metavar="RUN", positional=True
    )
    to: str = option(doc="format to write", choices=EXPORT_FORMATS)
    out: str | Path | None = option(None, "folder to write to (default: the run's)")
    nwb: str | Path | None = option(
        None, "the recording; the results are added to a copy of it, as a processing module"
    )
    session_start_time: datetime | None = option(
        None,
        "start of the session, for a new NWB file, as 2026-01-31T14:00:00+00:00",
        also=["--session-start"],
    )


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lfads export ...``; a user's mistake ends with one line."""
    options = Options(**Parser("export", DESCRIPTION, Options).given(argv))
    # numpy and h5py are imported once the command line is known to be right
    from lfads_lightning.inference.export import export

    paths = export(
        options.run,
        options.to,
        out=options.out,
        nwb=options.nwb,
        session_start_time=options.session_start_time,
    )
    for path in paths:
        print(path)
