"""Feed a reader with damaged files; each must be read, or refused by one LFADSError.

    python tests/fuzz/hunt.py session --files 200 --seed 0

Reads those of the corpus first, then as many damaged at random. Prints JSON.
Fails on any other exception, on a file that takes over 5 s, and on over 1 GB of memory; the file
that did it is kept.
"""

import argparse
import faulthandler
import json
import random
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import recipes
from targets import TARGETS

from lfads_lightning.config import LFADSError

SECONDS, BYTES = 15, 10**9  # on a busy core; what hangs takes minutes
WORDS = (
    b"*a", b"&a ", b"!!python/object/apply:os.system ['true']", b"[" * 50, b"{", b"null", b"1e999",
    b".nan", b"-1", b"9" * 30, b"\x00", b"\xff\xfe", b": ", b"\n", b"- ", b"0x", b"true", b"min",
)  # fmt: skip


def damaged(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Return one of the seeds damaged in one to four places."""
    content = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        size = max(len(content), 1)
        at = rng.randrange(size)
        length = min(2 ** rng.randint(0, 9), size - at)
        match rng.randrange(8):
            case 0 | 1:  # some bytes anywhere
                for _ in range(rng.choice((1, 1, 2, 16))):
                    if content:
                        content[rng.randrange(len(content))] = rng.randrange(256)
            case 2:
                del content[at:]
            case 3:
                del content[at : at + length]
            case 4:
                content[at:at] = content[at : at + length]
            case 5:
                content[at : at + length] = rng.choice((b"\x00", b"\xff")) * length
            case 6:
                content[at:at] = rng.choice(WORDS)
            case 7:
                other = rng.choice(seeds)
                start = rng.randrange(max(len(other), 1))
                content[at : at + length] = other[start : start + length]
    return bytes(content)


def hunt(name: str, n_files: int, seed: int) -> dict[str, object]:
    """Read damaged files; return how many were read and refused, the slowest, and the memory.

    Raises:
        AssertionError: a file that was neither, with the path at which it is kept.
    """
    target, rng = TARGETS[name], random.Random(seed)
    warnings.simplefilter("ignore")
    read, slowest = 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        seeds = target.seeds(Path(folder))
        path = Path(folder) / f"fuzzed{target.suffix}"
        for content in seeds:
            path.write_bytes(content)
            try:
                target.read(path)
            except LFADSError:
                pass
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kept = Path(tempfile.gettempdir()) / f"finding-{name}{target.suffix}"
        corpus = Path(__file__).parent / "corpus" / name
        again = iter([p.read_bytes() for p in sorted(corpus.glob("*"))])
        n_corpus = len(list(corpus.glob("*")))
        for _ in range(n_corpus + n_files):
            content = next(again, None)
            if content is None:
                content = damaged(rng, seeds)
                if target.follow is not None and rng.random() < 0.5:
                    content = recipes.PREFIX + rng.randbytes(48)
            path.unlink(missing_ok=True)
            target.write(content, path)
            kept.write_bytes(path.read_bytes())  # for a crash inside a library
            started = time.perf_counter()
            faulthandler.dump_traceback_later(6 * SECONDS, exit=True)
            try:
                target.read(path)
                read += 1
                said = ""
            except LFADSError as error:
                said = str(error)
            finally:
                faulthandler.cancel_dump_traceback_later()
            assert "\n" not in said.strip(), f"{kept}: two lines: {said}"
            assert len(said) < 2000, f"{kept}: {len(said)} characters"
            slowest = max(slowest, time.perf_counter() - started)
            assert slowest < SECONDS, f"{kept}: took {slowest:.1f} s"
            grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
            assert grown < BYTES, f"{kept}: took {grown / 1e9:.1f} GB"
        kept.unlink()
    return {
        "target": name,
        "files": n_files + n_corpus,
        "read": read,
        "refused": n_files + n_corpus - read,
        "slowest_s": round(slowest, 3),
        "memory_mb": grown // 10**6,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    faulthandler.enable()
    json.dump(hunt(given.target, given.files, given.seed), sys.stdout)
