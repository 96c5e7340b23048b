"""Which neurons and bins of a session are predicted, and never shown to the encoders."""

import zlib

import numpy as np

from lfads_lightning.commands import listed
from lfads_lightning.config import DataConfig, LFADSError, SessionSpec
from lfads_lightning.data.sessions import Session


def session_spec(session: Session, config: DataConfig) -> SessionSpec:
    """Return what the model must know about a session.

    Raises:
        LFADSError: no neuron or no bin is left for the encoders, or a neuron does not exist.
    """
    ext = session.train.ext_input
    if config.forward_steps >= session.shortest:
        raise LFADSError(
            f"{session.source}: data.forward_steps={config.forward_steps} of {session.shortest} "
            "bins leaves none for the encoders; use fewer forward bins, or longer trials"
        )
    return SessionSpec(
        session.name,
        session.data_dim,
        0 if ext is None else ext.shape[2],
        aligned=session.alignment_matrix_cxf is not None,
        held_out=held_out_columns(session, config.held_out_neurons, config.held_out_seed),
        forward_steps=config.forward_steps,
    )


def held_out_columns(
    session: Session, asked: str | float | list[int], seed: int
) -> tuple[int, ...]:
    """Return the columns of the held-out neurons in order; empty if none are asked for.

    A share is drawn by a separate generator, from the seed and the session's name: never all
    neurons, and at least one.

    Args:
        session: the session, with the keys of its file.
        asked: ``data.held_out_neurons``.
        seed: ``data.held_out_seed``.

    Raises:
        LFADSError: a column does not exist or is named twice, or all are named.
    """
    n, where = session.data_dim, f"{session.source}: data.held_out_neurons"
    if asked == "none":
        return ()
    if asked == "file":
        given = session.held_out_neurons
        return () if given is None else tuple(sorted(map(int, given)))
    if isinstance(asked, float):
        if n == 1:
            raise LFADSError(
                f"{where}={asked:g}, but there is only one neuron, which the encoders must see"
            )
        rng = np.random.default_rng([seed, zlib.crc32(session.name.encode())])
        share = min(max(round(asked * n), 1), n - 1)
        return tuple(sorted(rng.choice(n, share, replace=False).tolist()))
    assert isinstance(asked, list)
    if strangers := [c for c in asked if c >= n]:
        raise LFADSError(
            f"{where} names {listed(strangers)}, but train_data has {n} neurons; expected columns "
            f"counted from 0 (0 to {n - 1})"
        )
    if len(set(asked)) < len(asked):
        raise LFADSError(f"{where} names a column twice; give each once")
    if len(asked) == n:
        raise LFADSError(f"{where} names all {n} neurons; leave some for the encoders")
    return tuple(sorted(asked))
