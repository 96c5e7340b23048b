"""``lfads export``: a run's results as NWB, MATLAB or NumPy files, or a submission to the NLB."""

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
Write a run's results ({RESULTS}_*.h5) as NWB, MATLAB or NumPy files, or as the submission file of
the Neural Latents Benchmark (nlb)."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of :func:`lfads_lightning.export`."""

    run: str | Path = option(
        doc="a run's folder, or one of the files there", metavar="RUN", positional=True
    )
    to: str = option(doc="the format", choices=EXPORT_FORMATS)
    out: str | Path | None = option(None, "folder (default: the run's)")
    nwb: str | Path | None = option(None, "the recording: a copy of it gets the processing module")
    session_start_time: datetime | None = option(
        None, "of a new NWB file: 2026-01-31T14:00:00+00:00", also=["--session-start"]
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
