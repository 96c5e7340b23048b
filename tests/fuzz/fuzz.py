"""Fuzz a reader with atheris, which follows the paths through the code: make fuzz.

    python tests/fuzz/fuzz.py session 300

Begins with tests/fuzz/corpus/TARGET and fresh seeds, and goes on for so many seconds. An input
fails that ends in any exception but LFADSError, in an error of several lines, takes over 5 s, or
over 1 GB more than before; libFuzzer then keeps it in the current folder. Needs Linux and the extra
[dev].
"""

import resource
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

# ours, and what of the libraries that read is Python
READERS = ["lfads_lightning", "yaml", "pynwb", "hdmf", "h5py", "scipy.io", "numpy.lib", "zipfile",
           "torch.serialization", "torch._weights_only_unpickler"]  # fmt: skip
with atheris.instrument_imports(include=READERS):
    import recipes
    from targets import TARGETS

    from lfads_lightning.config import LFADSError

BYTES = 10**9


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Start libFuzzer on the target that the command line names."""
    name, seconds = sys.argv[1], int(sys.argv[2])
    target = TARGETS[name]
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix="lfads-fuzz-"))
    new, corpus = folder / "corpus", Path(__file__).parent / "corpus" / name
    new.mkdir()
    path = folder / f"fuzzed{target.suffix}"
    allowed = [float("inf")]

    def one(content: bytes) -> None:
        path.unlink(missing_ok=True)
        target.write(content, path)
        try:
            target.read(path)
        except LFADSError as error:
            if "\n" in str(error).strip():
                raise AssertionError(f"an error of several lines: {error}") from error
        if peak_bytes() > allowed[0]:
            raise AssertionError(f"it took over {BYTES} bytes")

    seeds = target.seeds(folder)
    if target.follow is not None:
        seeds += [recipes.PREFIX + bytes(range(k, k + 32)) for k in range(0, 200, 25)]
    with atheris.instrument_imports(include=READERS):  # what readers import at their first use
        for number, content in enumerate(seeds):
            (new / f"seed-{number}").write_bytes(content)
            one(content)
    # besides what libFuzzer itself comes to need
    allowed[0] = peak_bytes() + BYTES
    words = ["-timeout=5", "-rss_limit_mb=4000", "-max_len=262144", "-print_final_stats=1"]
    words += [f"-max_total_time={seconds}", str(new)]
    words += [str(corpus)] if corpus.is_dir() else []
    atheris.Setup([sys.argv[0], *words], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
