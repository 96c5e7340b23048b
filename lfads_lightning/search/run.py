"""A search, from its parameters to the folder of its best member."""

import shutil
from pathlib import Path

from lfads_lightning.config import Config, LFADSError
from lfads_lightning.data.identity import identity_of
from lfads_lightning.data.sessions import Session
from lfads_lightning.inference.trained import TrainedModel
from lfads_lightning.model.device import resolve_device
from lfads_lightning.params import check
from lfads_lightning.runs.files import whole_file
from lfads_lightning.runs.names import checkpoint_name
from lfads_lightning.runs.provenance import places_in, remember
from lfads_lightning.runs.run import Search
from lfads_lightning.search.members import Task, member_config
from lfads_lightning.search.pbt import search
from lfads_lightning.search.space import find_space, read_space
from lfads_lightning.training import constant_rate, loop
from lfads_lightning.training.changes import keep_beginning
from lfads_lightning.training.checkpoint_files import (
    LOWEST,
    PERIODIC,
    load_checkpoint,
    write_index,
)
from lfads_lightning.training.fit import Fitted
from lfads_lightning.training.format import state_of


def run_search(
    config: Config, sessions: list[Session], folder: Path
) -> tuple[TrainedModel, Fitted]:
    """Search, and write the best member to ``folder/best`` as the folder of an ordinary run.

    ``history.csv`` is written beside it. The best member is returned, not scored yet.

    Raises:
        LFADSError: the space or the data do not allow a search; what training raises.
    """
    check(config)
    space = read_space(find_space(config.search.space))
    files = Search(folder)
    begun = files.read_config() if files.journal.is_file() else None
    if begun is not None:
        keep_beginning(config, begun, folder)
    elif files.checkpoints.is_dir():
        raise LFADSError(
            f"{folder}: holds a training run, but search.algorithm=pbt begins a search; start it "
            "in another output.lfads_save_dir"
        )
    remember(folder, places=places_in(config))
    files.write_config(config)
    best = search(config, sessions, folder, space)
    task = Task(best["member"], best["generation"], best["until_epoch"], best["settings"], None)
    own = member_config(config, folder, task)
    run = files.best
    own.output.lfads_save_dir, own.optim.do_reset_learning_rate = str(run.folder), False
    saved = load_checkpoint(best["checkpoint"])
    name = checkpoint_name(own.output.checkpoint_name, saved["lfads"]["step"])
    with whole_file(run.checkpoints / name) as path:
        shutil.copyfile(best["checkpoint"], path)
    for index in (PERIODIC, LOWEST):
        write_index(run.checkpoints, index, [name])
    remember(run.folder, places=places_in(own))
    run.write_config(own)
    model = loop.new_model(own, sessions, Path(best["checkpoint"]))
    model.load_state_dict(state_of(saved))
    step = saved["lfads"]["step"]
    fitted = Fitted(
        model.to(resolve_device(own.trainer.device)),
        step,
        LOWEST,
        f"valid/{own.trainer.criterion.name}",
        best["score"],
        best["valid"],
        best["until_epoch"],
        step,
        seconds=best["seconds"],
    )
    fitted = constant_rate.unless_better(own, sessions, run.folder, fitted)
    trained = TrainedModel(
        fitted.model, own, sessions[0].n_bins, fitted.step, run.folder, identity_of(sessions)
    )
    return trained, fitted
