"""The recurrences: one GRU cell, the encoder's pass and the decoder's pass over a whole sequence.

Everything that runs once per time bin is in this file, behind two functions of tensors,
:func:`encoder_passes` and :func:`decoder_pass`; noise and dropout masks are drawn before and passed
in.

The cell (Sussillo et al. 2016, appendix; the original implementation) is not that of
``torch.nn.GRU``: the reset gate acts before the recurrent product, the update gate has a constant
+1, and the state is clamped. For state h (B, n) and input x (B, m)::

    r = sigmoid(x W_xr + h W_hr + b_r)
    u = sigmoid(x W_xu + h W_hu + b_u + 1)           u keeps the old state
    c = tanh(x W_xc + (r * h) W_hc + b_c)
    h' = clamp(u * h + (1 - u) * c, -clip, clip)
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lfads_lightning.model.layout import product
from lfads_lightning.model.observations import NoiseModel

UPDATE_GATE_OFFSET = 1.0  # a constant, not folded into the bias: biases are inside the L2 penalty


class GRUWeights(NamedTuple):
    """Weights of one GRU; gate columns are reset first, then update."""

    input_gates: Tensor  # (m, 2n)
    input_candidate: Tensor  # (m, n)
    gates: Tensor  # (n, 2n)
    gates_bias: Tensor  # (2n,)
    candidate: Tensor  # (n, n)
    candidate_bias: Tensor  # (n,)


class GRU(nn.Module):
    """Own the weights of a GRU cell; the passes below use them.

    Args:
        input_dim: m; may be 0, for a generator without inputs.
        hidden_dim: n.
        input_std: standard deviation of the initial input weights.
        gate_std: that of the recurrent gate weights.
        candidate_std: that of the recurrent candidate weights.
        input_candidate_std: that of the input's candidate weights; by default ``input_std``.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        *,
        input_std: float,
        gate_std: float,
        candidate_std: float,
        input_candidate_std: float | None = None,
    ) -> None:
        super().__init__()
        if input_candidate_std is None:
            input_candidate_std = input_std
        m, n = input_dim, hidden_dim
        # in place, here and in other layers: a product of tensors on the device "meta", where a
        # checkpoint is checked, would import torch._dynamo, which takes two seconds
        self.input_gates = nn.Parameter(torch.randn(m, 2 * n).mul_(input_std))
        self.input_candidate = nn.Parameter(torch.randn(m, n).mul_(input_candidate_std))
        self.gates = nn.Parameter(torch.randn(n, 2 * n).mul_(gate_std))
        self.gates_bias = nn.Parameter(torch.zeros(2 * n))
        self.candidate = nn.Parameter(torch.randn(n, n).mul_(candidate_std))
        self.candidate_bias = nn.Parameter(torch.zeros(n))

    @classmethod
    def encoder(cls, input_dim: int, hidden_dim: int, gate_scale: float) -> "GRU":
        """Make an encoder cell: std 1/sqrt(m + n), scaled for gates only, as in the original."""
        std = 1 / math.sqrt(input_dim + hidden_dim)
        return cls(
            input_dim,
            hidden_dim,
            input_std=gate_scale * std,
            gate_std=gate_scale * std,
            candidate_std=std,
            input_candidate_std=std,
        )

    @classmethod
    def decoder(
        cls, input_dim: int, hidden_dim: int, input_scale: float, recurrent_scale: float
    ) -> "GRU":
        """Make a decoder cell: std input_scale/sqrt(m) and recurrent_scale/sqrt(n)."""
        recurrent_std = recurrent_scale / math.sqrt(hidden_dim)
        return cls(
            input_dim,
            hidden_dim,
            input_std=input_scale / math.sqrt(max(input_dim, 1)),
            gate_std=recurrent_std,
            candidate_std=recurrent_std,
        )

    @property
    def weights(self) -> GRUWeights:
        """The six weights, as the passes take them."""
        return GRUWeights(
            self.input_gates,
            self.input_candidate,
            self.gates,
            self.gates_bias,
            self.candidate,
            self.candidate_bias,
        )

    def recurrent_parameters(self) -> list[Tensor]:
        """Return the parameters under the L2 penalty: recurrent weights and their biases."""
        return [self.gates, self.gates_bias, self.candidate, self.candidate_bias]


def gates_bias(weights: GRUWeights) -> Tensor:
    """Return the bias of the gates (2n,), including the update gate's constant."""
    reset, update = weights.gates_bias.chunk(2)
    return torch.cat([reset, update + UPDATE_GATE_OFFSET])


def _step(
    gate_input: Tensor, candidate_input: Tensor, h: Tensor, weights: GRUWeights, clip: float | None
) -> Tensor:
    """Advance one bin; the two inputs are already projected and include the biases."""
    reset, update = torch.addmm(gate_input, h, weights.gates).sigmoid().chunk(2, dim=1)
    candidate = torch.addmm(candidate_input, reset * h, weights.candidate).tanh()
    h = torch.lerp(candidate, h, update)
    return h if clip is None else h.clamp(-clip, clip)


def _clips(clip: float, n_bins: int) -> list[float | None]:
    """Return the clamp of each step.

    A step mixes the old state and a value inside +-1, so |h'| <= max(|h|, 1): with clip >= 1 the
    first step's clamp is enough for all steps.
    """
    return [clip] * n_bins if clip < 1 else [clip] + [None] * (n_bins - 1)


def _projected(
    x: Tensor | None, weights: GRUWeights, rows: slice, n_bins: int
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Project inputs that are known in advance, for all bins at once, and add the biases.

    Args:
        x: (B, T, m), or None for no such inputs.
        weights: weights of the cell.
        rows: the rows of its input weights that x is multiplied with.
        n_bins: T.

    Returns:
        T inputs of the gates (B, 2n), and T of the candidate (B, n).
    """
    gate_bias, candidate_bias = gates_bias(weights), weights.candidate_bias
    if x is None:
        return [gate_bias] * n_bins, [candidate_bias] * n_bins
    gates = product(x, weights.input_gates[rows], gate_bias)
    candidates = product(x, weights.input_candidate[rows], candidate_bias)
    # unbind, not x[:, t]: the backward of indexing is quadratic in T
    return gates.unbind(1), candidates.unbind(1)


class EncoderRun(NamedTuple):
    """One direction of an encoder: a GRU over all bins."""

    x: Tensor  # (B, T, m)
    initial_state: Tensor  # (n,), the state before the first bin processed
    weights: GRUWeights
    clip: float  # states are clamped to +- this
    reverse: bool = False  # process bins T-1..0


def encoder_passes(runs: Sequence[EncoderRun]) -> list[tuple[Tensor, Tensor]]:
    """Run GRUs over all bins; those of one call do not depend on each other.

    Returns:
        For each, states (B, T, n), where entry t is the state after processing bin t in either
        direction, and the state (B, n) after the last bin processed.
    """
    return [_encoder_pass(*run) for run in runs]


def _encoder_pass(
    x: Tensor, initial_state: Tensor, weights: GRUWeights, clip: float, reverse: bool
) -> tuple[Tensor, Tensor]:
    n_bins = x.shape[1]
    gate_inputs, candidate_inputs = _projected(x, weights, slice(None), n_bins)
    h = initial_state.expand(x.shape[0], -1)
    states = [h] * n_bins
    order = reversed(range(n_bins)) if reverse else range(n_bins)
    for t, bound in zip(order, _clips(clip, n_bins), strict=True):
        h = _step(gate_inputs[t], candidate_inputs[t], h, weights, bound)
        states[t] = h
    return torch.stack(states).transpose(0, 1), h


class Readout(NamedTuple):
    """Rates that may be fed back: those of the noise model at factors W + b."""

    weight: Tensor | None  # (F, D); None: the identity
    bias: Tensor | None  # (D,)
    noise_model: NoiseModel
    clip: float  # of the log-rate; the start-up value of bin -1 is not clamped

    def log_rates(self, factors: Tensor) -> Tensor:
        """Map factors (B, F) or (B, T, F) to D log-rates."""
        if self.weight is None or self.bias is None:
            return factors
        return product(factors, self.weight, self.bias)

    def __call__(self, factors: Tensor, clamp: bool = True) -> Tensor:
        """Map factors (B, F) to the fed-back rates (B, D)."""
        return self.noise_model.rates(self.log_rates(factors), self.clip if clamp else math.inf)


class ControllerInputs(NamedTuple):
    """All inputs of the controller's recurrence."""

    weights: GRUWeights
    initial_state: Tensor  # (K,)
    # (B, T, C or 2C), lagged and dropped out; or (n, T, ...) for n trials with B/n samples each,
    # where row r is a sample of trial r mod n
    encodings: Tensor
    posterior_weight: Tensor  # (K, 2U): columns of the mean, then of the log-variance
    posterior_bias: Tensor  # (2U,)
    noise: Tensor  # (B, T, U), standard normal
    drive_with_means: bool  # the generator gets posterior means instead of samples
    do_feed: bool  # feed the previous bin back
    feedback_mask: Tensor | None  # (B, T, F or D), dropout of what is fed back
    feedback_rates: Readout | None  # feed rates back; None: factors


class DecoderStates(NamedTuple):
    """Everything the decoder computes; the last four are None without a controller.

    In forward bins, which no encoder sees, the inputs follow their prior given the bins before, and
    the controller has no state.
    """

    gen_states: Tensor  # (B, T, G)
    factors: Tensor  # (B, T, F)
    con_states: Tensor | None = None  # (B, T, K), without forward bins
    co_means: Tensor | None = None  # (B, T, U)
    co_logvars: Tensor | None = None  # (B, T, U)
    co_samples: Tensor | None = None  # (B, T, U)


def generator_pass(
    gen_ic: Tensor,
    weights: GRUWeights,
    inputs: Tensor | None,
    n_bins: int,
    clip: float,
) -> Tensor:
    """Run the generator on inputs that are known in advance.

    Args:
        gen_ic: (B, G), the state before bin 0; not clamped.
        weights: weights of the generator.
        inputs: (B, T, m), or None if the generator is autonomous.
        n_bins: T.
        clip: states are clamped to +- this.

    Returns:
        (B, T, G).
    """
    gate_inputs, candidate_inputs = _projected(inputs, weights, slice(None), n_bins)
    g, states = gen_ic, []
    clips = _clips(clip, n_bins)
    for gate_input, candidate_input, bound in zip(
        gate_inputs, candidate_inputs, clips, strict=True
    ):
        g = _step(gate_input, candidate_input, g, weights, bound)
        states.append(g)
    return torch.stack(states).transpose(0, 1)


def decoder_pass(
    gen_ic: Tensor,
    generator: GRUWeights,
    factor_weight: Tensor,
    controller: ControllerInputs | None,
    *,
    n_bins: int,
    clip: float,
    ext_input: Tensor | None = None,
    gen_mask: Tensor | None = None,
) -> DecoderStates:
    """Run controller and generator over all bins, feeding factors (or rates) back.

    Args:
        gen_ic: (B, G), the generator's state before bin 0.
        generator: weights; input rows are the U inferred inputs, then the external inputs.
        factor_weight: (G, F), with normalised columns.
        controller: None without inferred inputs.
        n_bins: T.
        clip: states are clamped to +- this.
        ext_input: (B, T, I) injected into the generator.
        gen_mask: (B, T, G) dropout of the copy of the state that the factors read.

    Returns:
        States, factors and inferred inputs; for shapes see :class:`DecoderStates`.
    """
    if controller is None:
        gen_states = generator_pass(gen_ic, generator, ext_input, n_bins, clip)
        read = gen_states if gen_mask is None else gen_states * gen_mask
        return DecoderStates(gen_states, product(read, factor_weight))
    return _controlled_pass(gen_ic, generator, factor_weight, controller, clip, ext_input, gen_mask)


def _controlled_pass(
    gen_ic: Tensor,
    generator: GRUWeights,
    factor_weight: Tensor,
    con: ControllerInputs,
    clip: float,
    ext_input: Tensor | None,
    gen_mask: Tensor | None,
) -> DecoderStates:
    n_bins, co_dim = con.noise.shape[1], con.noise.shape[2]
    n_enc = con.encodings.shape[2]
    con_gates, con_candidates = _projected(con.encodings, con.weights, slice(n_enc), n_bins)
    samples = len(con.noise) // len(con.encodings)
    if samples > 1:
        con_gates = [x.repeat(samples, 1) for x in con_gates]
        con_candidates = [x.repeat(samples, 1) for x in con_candidates]
    feed_gates, feed_candidate = (
        con.weights.input_gates[n_enc:],
        con.weights.input_candidate[n_enc:],
    )
    u_gates, u_candidate = generator.input_gates[:co_dim], generator.input_candidate[:co_dim]
    gen_gates, gen_candidates = _projected(ext_input, generator, slice(co_dim, None), n_bins)
    noise = con.noise.unbind(1)
    gen_masks = _by_bin(gen_mask, n_bins)
    feed_masks = _by_bin(con.feedback_mask, n_bins)

    def fed_back(factors: Tensor, clamp: bool = True) -> Tensor:
        return factors if con.feedback_rates is None else con.feedback_rates(factors, clamp)

    g = gen_ic
    c = con.initial_state.expand(gen_ic.shape[0], -1)
    feedback = fed_back(gen_ic @ factor_weight, clamp=False) if con.do_feed else None
    out: list[tuple[Tensor, ...]] = []
    for t, bound in enumerate(_clips(clip, n_bins)):
        con_gate, con_candidate = con_gates[t], con_candidates[t]
        if feedback is not None:
            feed_mask = feed_masks[t]
            if feed_mask is not None:
                feedback = feedback * feed_mask
            con_gate = torch.addmm(con_gate, feedback, feed_gates)
            con_candidate = torch.addmm(con_candidate, feedback, feed_candidate)
        c = _step(con_gate, con_candidate, c, con.weights, bound)
        mean, logvar = torch.addmm(con.posterior_bias, c, con.posterior_weight).chunk(2, dim=1)
        u = mean + (0.5 * logvar).exp() * noise[t]
        driven_by = mean if con.drive_with_means else u
        g = _step(
            torch.addmm(gen_gates[t], driven_by, u_gates),
            torch.addmm(gen_candidates[t], driven_by, u_candidate),
            g,
            generator,
            bound,
        )
        mask = gen_masks[t]
        factors = (g if mask is None else g * mask) @ factor_weight
        feedback = fed_back(factors) if con.do_feed else None
        out.append((g, factors, c, mean, logvar, u))
    return DecoderStates(
        *(torch.stack(series).transpose(0, 1) for series in zip(*out, strict=True))
    )


def _by_bin(mask: Tensor | None, n_bins: int) -> Sequence[Tensor | None]:
    return [None] * n_bins if mask is None else mask.unbind(1)
