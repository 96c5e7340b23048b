"""Fuzz a reader with atheris, which follows the paths through our code: make fuzz.

    python tests/fuzz/fuzz.py session tests/fuzz/corpus/session -max_total_time=300

Needs Linux and the extra [dev]. What libFuzzer finds interesting is added to the corpus.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lfads_lightning", "yaml"]):
    from targets import TARGETS

    from lfads_lightning.config import LFADSError


def main() -> None:
    """Start libFuzzer on the target that the command line names."""
    name = sys.argv.pop(1)
    target = TARGETS[name]
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix="lfads-fuzz-"))
    corpus = [Path(word) for word in sys.argv[1:] if not word.startswith("-")]
    for number, content in enumerate(target.seeds(folder)):
        for place in corpus[:1]:
            place.mkdir(parents=True, exist_ok=True)
            (place / f"seed-{number}").write_bytes(content)
    path = folder / f"fuzzed{target.suffix}"

    def one(content: bytes) -> None:
        path.write_bytes(content)
        try:
            target.read(path)
        except LFADSError:
            pass

    limits = ["-timeout=5", "-rss_limit_mb=1500", "-max_len=65536"]
    atheris.Setup([sys.argv[0], *limits, *sys.argv[1:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
