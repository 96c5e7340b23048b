"""Does training end as well if the factors of every product have the precision of bf16?

    python -m benchmarks.bf16 FILE_OR_NAME ... [--seeds 0 1 2] [--set NAME=VALUE ...] [--json FILE]

Rounds them to bf16, where a processor with such units would; sums, states, gates, loss and
optimiser stay in float32. No time is saved: this asks only what such training would give. Files
and names are those of :mod:`benchmarks.first_run`. A row for each seed: bits per spike of hidden
entries, and the criterion, with products in float32 and with these.
"""

import argparse
import ctypes
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lfads_lightning as lfads
from benchmarks import machine
from benchmarks.first_run import recordings, setting
from lfads_lightning.model import builds, native

SCORES = ("valid/hidden_bits_per_spike", "criterion")
_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default)

# sgemm of column-major matrices, as native.cpp calls it
SHIM = r"""
#include <cstring>
#include <vector>
using Sgemm = void (*)(const char*, const char*, const int*, const int*, const int*, const float*,
                       const float*, const int*, const float*, const int*, const float*, float*,
                       const int*);
static Sgemm exact = nullptr;
static thread_local std::vector<float> a_, b_;
static void round_all(int rows, int columns, const float* x, int ld, std::vector<float>& y) {
  y.resize(static_cast<size_t>(rows) * columns);
  for (int j = 0; j < columns; ++j)
    for (int i = 0; i < rows; ++i) {
      unsigned bits;
      std::memcpy(&bits, x + static_cast<long>(j) * ld + i, 4);
      bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;  // to nearest, ties to even
      std::memcpy(&y[static_cast<size_t>(j) * rows + i], &bits, 4);
    }
}
extern "C" {
void use(void* address) { exact = reinterpret_cast<Sgemm>(address); }
void rounded_sgemm(const char* ta, const char* tb, const int* m, const int* n, const int* k,
                   const float* alpha, const float* a, const int* lda, const float* b,
                   const int* ldb, const float* beta, float* c, const int* ldc) {
  const int a_rows = *ta == 'N' ? *m : *k, a_columns = *ta == 'N' ? *k : *m;
  const int b_rows = *tb == 'N' ? *k : *n, b_columns = *tb == 'N' ? *n : *k;
  round_all(a_rows, a_columns, a, *lda, a_);
  round_all(b_rows, b_columns, b, *ldb, b_);
  exact(ta, tb, m, n, k, alpha, a_.data(), &a_rows, b_.data(), &b_rows, beta, c, ldc);
}
}
"""


class _Rounded(TorchDispatchMode):
    """Rounds the factors of torch's own products, in both passes."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _PRODUCTS:
            args = (*args[:-2], *map(_rounded, args[-2:]))
        return func(*args, **(kwargs or {}))


def _rounded(x: torch.Tensor) -> torch.Tensor:
    return x.bfloat16().to(x.dtype) if x.dtype == torch.float32 else x


@contextmanager
def rounded_products() -> Iterator[None]:
    """Round the factors of products to bf16 inside, in torch and in the native kernels."""
    library, exact = native.library(), native._torch_sgemm()
    with tempfile.TemporaryDirectory() as folder:
        source, built = Path(folder) / "shim.cpp", Path(folder) / "shim.so"
        source.write_text(SHIM)
        command = [builds.compiler() or "c++", *native.FLAGS.split(), str(source), "-o", str(built)]
        subprocess.run(command, check=True)
        shim = ctypes.CDLL(str(built))
    shim.use(exact)
    library.lfads_set_sgemm(ctypes.cast(shim.rounded_sgemm, ctypes.c_void_p))
    try:
        with _Rounded():
            yield
    finally:
        library.lfads_set_sgemm(exact)


def scores(data: Any, **settings: Any) -> dict[str, float]:
    """Train once; return the scores."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fixed = {"device": "cpu:0", "num_threads": 1, "report": False, "lfads_save_dir": folder}
        found = lfads.fit(data, **fixed | settings).scores
    return {name: float(found[name]) for name in SCORES}


def measure(name: str, data: Any, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Train with both, and return a row."""
    both = {"float32": scores(data, seed=seed, **settings)}
    with rounded_products():
        both["bf16"] = scores(data, seed=seed, **settings)
    columns = {
        f"{score.rsplit('/')[-1]} {kind}": round(found[score], 4)
        for score in SCORES
        for kind, found in both.items()
    }
    return {"recording": name, "seed": seed} | columns


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="*", default=[], type=setting, metavar="NAME=VALUE")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = [
        measure(name, data, seed, dict(given.set))
        for name, data in recordings(given.recordings).items()
        for seed in given.seeds
    ]
    machine.show(rows, given.json)
