"""Numbers that say how good a model is; plain functions on NumPy arrays.

Rates are expected counts per bin, (E, T, D). Each function states its formula, its source and, for
bits per spike, its null model.
"""

from lfads_lightning.metrics.dimension import effective_dimensionality as effective_dimensionality
from lfads_lightning.metrics.few_shot import few_shot_co_bps as few_shot_co_bps
from lfads_lightning.metrics.likelihood import SMALLEST_RATE as SMALLEST_RATE
from lfads_lightning.metrics.likelihood import bits as bits
from lfads_lightning.metrics.likelihood import bits_of_neurons as bits_of_neurons
from lfads_lightning.metrics.likelihood import bits_per_spike as bits_per_spike
from lfads_lightning.metrics.likelihood import co_bps as co_bps
from lfads_lightning.metrics.likelihood import fp_bps as fp_bps
from lfads_lightning.metrics.likelihood import null_nll as null_nll
from lfads_lightning.metrics.likelihood import poisson_nll as poisson_nll
from lfads_lightning.metrics.missing import complete_rows as complete_rows
from lfads_lightning.metrics.missing import has_missing as has_missing
from lfads_lightning.metrics.missing import mean_of as mean_of
from lfads_lightning.metrics.missing import varies as varies
from lfads_lightning.metrics.psth import Psth as Psth
from lfads_lightning.metrics.psth import psth as psth
from lfads_lightning.metrics.psth import psth_r2 as psth_r2
from lfads_lightning.metrics.psth import psth_sd as psth_sd
from lfads_lightning.metrics.readout import Design as Design
from lfads_lightning.metrics.readout import Readout as Readout
from lfads_lightning.metrics.regression import NLB_ALPHAS as NLB_ALPHAS
from lfads_lightning.metrics.regression import Decoding as Decoding
from lfads_lightning.metrics.regression import affine_r2 as affine_r2
from lfads_lightning.metrics.regression import decode as decode
from lfads_lightning.metrics.regression import mean_r2 as mean_r2
from lfads_lightning.metrics.regression import r2 as r2
from lfads_lightning.metrics.regression import velocity_r2 as velocity_r2
from lfads_lightning.metrics.smoothing import best_smoothing as best_smoothing
from lfads_lightning.metrics.smoothing import kernel as kernel
from lfads_lightning.metrics.smoothing import smooth as smooth
from lfads_lightning.metrics.smoothing import smooth_shown as smooth_shown
from lfads_lightning.metrics.smoothing import widths as widths
from lfads_lightning.metrics.truth import PulseTiming as PulseTiming
from lfads_lightning.metrics.truth import StateR2 as StateR2
from lfads_lightning.metrics.truth import input_r2 as input_r2
from lfads_lightning.metrics.truth import pulse_timing as pulse_timing
from lfads_lightning.metrics.truth import rate_r2 as rate_r2
from lfads_lightning.metrics.truth import state_r2 as state_r2
