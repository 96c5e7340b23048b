"""``lfads train``, the same as ``python train.py``: train a model, or use a trained one."""

import sys
from collections.abc import Sequence

from lfads_lightning.cli.programs import command, version_text


@command
def main() -> None:
    """Run ``lfads train ...``; a user's mistake ends with one line."""
    if "--version" in sys.argv[1:]:  # Hydra would print its own version
        print(version_text())
        return
    if _asks_for_help_alone(sys.argv[1:]):
        from lfads_lightning.cli.help import help_text

        print(help_text())
        return
    # Hydra's import takes a third of a second, and longer on a busy network drive
    from lfads_lightning.cli import hydra_run

    hydra_run.main()


def _asks_for_help_alone(words: Sequence[str]) -> bool:
    """Return whether ``--help`` is the only option; with others, Hydra's parser reads them."""
    options = {word for word in words if word.startswith("-")}
    return bool(options) and options <= {"-h", "--help"}
