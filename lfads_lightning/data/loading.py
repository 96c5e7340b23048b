"""Reading the sessions that a config names."""

from collections.abc import Sequence

from lfads_lightning.config import Config, LFADSError
from lfads_lightning.data.fields import KEYS, Session
from lfads_lightning.data.session_files import iterate_sessions, load_sessions
from lfads_lightning.data.sessions import (
    Given,
    assemble,
    check_session,
    check_together,
    checked,
    compact,
)
from lfads_lightning.data.synthetic import SYNTHETIC, generate


def read_data(config: Config) -> list[Session]:
    """Read the sessions that a config names without checks, for callers that need them first.

    Counts are in the smallest type that holds them; the rest is as it was stored. None if there is
    nothing of that name: :func:`load_data` says why.
    """
    folder, name = config.data.data_dir, config.data.data_filename_stem
    if folder is not None:
        return list(map(compact, iterate_sessions(folder, name)))
    if name in SYNTHETIC:
        return [assemble(given.name, given.source, given.arrays) for given in _generated(name)]
    return []


def load_data(config: Config, read: list[Session] | None = None) -> list[Session]:
    """Read the sessions that a config names, or generate the embedded data set of that name.

    Args:
        config: names the data, and says what they must be.
        read: result of :func:`read_data`, if it was called; the list is emptied.

    Raises:
        LFADSError: there are no such files, or their data cannot be used.
    """
    name = config.data.data_filename_stem
    asked = {
        "output_dist": config.model.output_dist.name,
        "ext_input_dim": config.data.ext_input_dim,
        "factors_dim": config.model.factors_dim,
    }
    if read:
        sessions = []
        while read:  # release each in turn
            sessions.append(check_session(read.pop(0), **asked))  # type: ignore[arg-type]
        return check_together(sessions)
    if config.data.data_dir is not None:
        return load_sessions(config.data.data_dir, name, **asked)  # type: ignore[arg-type]
    if not name:
        raise LFADSError(
            "data.data_dir is not set, because this model was trained on arrays from Python; give "
            "data.data_dir=FOLDER data.data_filename_stem=STEM"
        )
    if name not in SYNTHETIC:
        raise LFADSError(
            f"data.data_filename_stem={name!r}: data.data_dir is not set, and no embedded data set "
            f"has this name (there are {', '.join(SYNTHETIC)}); set data.data_dir to the folder of "
            "your data"
        )
    return checked(_generated(name), **asked)  # type: ignore[arg-type]


def _generated(name: str) -> list[Given]:
    return [
        Given.of_arrays(session, {key: arrays[key] for key in KEYS if key in arrays})
        for session, arrays in generate(name).items()
    ]


def n_trials_of(sessions: Sequence[Session]) -> dict[str, list[int]]:
    """Return the number of training and validation trials of each session."""
    return {s.name: [0 if p is None else len(p.data) for p in (s.train, s.valid)] for s in sessions}
