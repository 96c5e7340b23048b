"""What loggers get besides scalars: figures and, for TensorBoard, settings with scores."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfads_lightning.config import Config
from lfads_lightning.params import dotted_settings
from lfads_lightning.report.style import Picture
from lfads_lightning.runs.event_files import silent_writers
from lfads_lightning.runs.files import writing
from lfads_lightning.runs.names import TENSORBOARD
from lfads_lightning.runs.run import Run

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_SUFFIX = ".scores"


def by_tag(split: str, pictures: Sequence[Picture]) -> dict[str, bytes]:
    """Return figures as PNG files by the name in loggers, ``split/name``."""
    return {f"{split}/{p.drawing.name}": p.png for p in pictures}


def add_pictures(
    writer: "SummaryWriter", split: str, pictures: Sequence[Picture], step: int
) -> None:
    """Write figures as images, ``split/name``."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    files = writer._get_file_writer()
    assert files is not None
    for p in pictures:
        image = Summary.Image(
            height=p.height, width=p.width, colorspace=4, encoded_image_string=p.png
        )
        tag = f"{split}/{p.drawing.name}"
        files.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def add_scores(
    folder: Path,
    config: Config,
    scores: Mapping[str, Any],
    step: int,
    pictures: Mapping[str, Sequence[Picture]],
) -> None:
    """Write the settings and final scores for the HParams tab, and the last figures.

    They have an event file of their own, which replaces the one from an earlier end of the run.

    Args:
        folder: the run's folder.
        config: all parameters.
        scores: scores by name; those that are not finite are left out.
        step: updates that led to the weights.
        pictures: figures by split.
    """
    if TENSORBOARD not in config.trainer.logger_names:
        return
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    folder = Run(folder).tensorboard
    finals = {
        f"final/{name.replace('/', '_')}": float(value)
        for name, value in scores.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    with writing(folder), silent_writers():
        for old in folder.glob(f"events.out.tfevents.*{_SUFFIX}"):
            old.unlink()
        with SummaryWriter(str(folder), filename_suffix=_SUFFIX) as writer:
            files = writer._get_file_writer()
            assert files is not None
            # the first part declares the columns; without it TensorBoard collects them from all
            # runs of a sweep, and puts the settings that differ first. Scores are columns like
            # settings: each would be a chart with a single point as a metric
            for part in hparams(dotted_settings(config) | finals, {})[1:]:
                files.add_summary(part)
            for split, some in pictures.items():
                add_pictures(writer, split, some, step)
