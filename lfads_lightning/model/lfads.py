"""The LFADS network: encoders, controller, generator, factors, per-session read-in and read-out.

Sussillo, Jozefowicz, Abbott & Pandarinath 2016 (arXiv:1608.06315); Pandarinath et al. 2018
(Nature Methods 15, 805). For letters in shapes see ``lfads_lightning.__init__``.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lfads_lightning.config import Feedback, LFADSError, ModelConfig, SessionSpec, Spread
from lfads_lightning.model.cells import GRU, ControllerInputs, DecoderStates, Readout
from lfads_lightning.model.distributions import AutoregressivePrior, InitialConditionPrior
from lfads_lightning.model.forecast import foresee
from lfads_lightning.model.layers import (
    Affine,
    Bidirectional,
    Standardise,
    coarser,
    dropout_mask,
    lagged,
    masked,
    run_encoders,
    session_key,
    session_layer,
)
from lfads_lightning.model.layout import time_major
from lfads_lightning.model.observations import from_name
from lfads_lightning.model.records import NO_DROPOUT, Encoding, LFADSOutput, Masks, Noise
from lfads_lightning.model.recurrences import REFERENCE
from lfads_lightning.model.visibility import WHOLE, Encoded, Visibility


class LFADS(nn.Module):
    """The network; it knows sessions by name and size only.

    Args:
        config: the model's parameters.
        sessions: a :class:`SessionSpec` each; ext_input_dim and forward_steps are the same in all.

    Attributes:
        noise_model: noise model of the data.
        encoded: selects the part of the data that is encoded.
        passes: implementation of the recurrences; see :mod:`lfads_lightning.model.recurrences`.

    Raises:
        LFADSError: rates are to be fed back with more than one session.
    """

    def __init__(self, config: ModelConfig, sessions: Sequence[SessionSpec]) -> None:
        super().__init__()
        self.config, self.sessions = config, {s.name: s for s in sessions}
        self.passes, self.encoded = REFERENCE, Encoded(sessions)
        self.ext_input_dim = sessions[0].ext_input_dim
        self.noise_model = from_name(config.output_dist)
        self.feeds_rates = config.feedback_factors_or_rates is Feedback.rates
        if config.do_feed_factors_to_controller and config.co_dim and self.feeds_rates:
            if len(sessions) > 1:
                raise LFADSError(
                    f"model.feedback_factors_or_rates=rates with {len(sessions)} sessions: the "
                    "number of rates differs between sessions; feed back factors"
                )
        self._build_sessions()
        self._build_encoders()
        self._build_decoder()

    def _build_sessions(self) -> None:
        cfg, single = self.config, len(self.sessions) == 1
        specs = list(self.sessions.values())
        factors, first = cfg.factors_dim, specs[0]
        reads_in = not single or first.aligned
        self.readin = nn.ModuleDict(
            {session_key(s.name): Affine(s.held_in_dim, factors) for s in specs} if reads_in else {}
        )
        self.readin.requires_grad_(cfg.do_train_readin)
        standardised = specs if cfg.do_standardise_input else []
        self.standardise = nn.ModuleDict(
            {session_key(s.name): Standardise(s.held_in_dim) for s in standardised}
        )
        self.encoder_input_dim = factors if reads_in else first.held_in_dim
        if not cfg.inject_ext_input_to_gen:
            self.encoder_input_dim += self.ext_input_dim
        noise = self.noise_model
        identity = single and noise.has_identity_readout and first.data_dim == factors
        self.readout = nn.ModuleDict(
            {} if identity else {session_key(s.name): Affine(factors, s.data_dim) for s in specs}
        )
        per_bin = cfg.spread_per is Spread.bin
        for extra in noise.extras:
            made = {
                session_key(s.name): noise.new_readout(extra, factors, s.data_dim, per_bin)
                for s in specs
            }
            self.add_module(f"readout_{extra}", nn.ModuleDict(made))

    @property
    def extra_readouts(self) -> dict[str, nn.ModuleDict]:
        """Read-outs of the noise model besides that of the rate, by name: a layer per session."""
        return {extra: getattr(self, f"readout_{extra}") for extra in self.noise_model.extras}

    def _build_encoders(self) -> None:
        cfg, width = self.config, self.encoder_input_dim
        scale, clip = cfg.cell_weight_scale, cfg.cell_clip_value
        if cfg.ic_dim > 0:
            self.ic_encoder = Bidirectional(width, cfg.ic_enc_dim, scale, clip, rev=True)
            self.ic_mean = Affine(2 * cfg.ic_enc_dim, cfg.ic_dim)
            self.ic_logvar = Affine(2 * cfg.ic_enc_dim, cfg.ic_dim)
            self.ic_prior = InitialConditionPrior(
                cfg.ic_dim,
                cfg.ic_prior_var_min,
                cfg.ic_prior_var_scale,
                cfg.ic_prior_var_max,
                cfg.do_legacy_ic_prior_var,
            )
            self.ic_to_gen = None if cfg.ic_dim == cfg.gen_dim else Affine(cfg.ic_dim, cfg.gen_dim)
        else:
            self.gen_ic = nn.Parameter(torch.zeros(cfg.gen_dim))
        if cfg.co_dim > 0:
            rev = not cfg.do_causal_controller
            self.ci_encoder = Bidirectional(width, cfg.ci_enc_dim, scale, clip, rev=rev)

    def _build_decoder(self) -> None:
        cfg = self.config
        if cfg.co_dim > 0:
            directions = 1 if cfg.do_causal_controller else 2
            con_input_dim = directions * cfg.ci_enc_dim + self.feedback_dim
            self.controller = GRU.decoder(
                con_input_dim, cfg.con_dim, cfg.cell_weight_scale, cfg.cell_weight_scale
            )
            self.con_ic = nn.Parameter(torch.zeros(cfg.con_dim))
            self.co_mean = Affine(cfg.con_dim, cfg.co_dim)
            self.co_logvar = Affine(cfg.con_dim, cfg.co_dim)
            self.co_prior = AutoregressivePrior(
                cfg.co_dim,
                cfg.prior_ar_atau,
                cfg.prior_ar_nvar,
                cfg.do_train_prior_ar_atau,
                cfg.do_train_prior_ar_nvar,
            )
        injected = self.ext_input_dim if cfg.inject_ext_input_to_gen else 0
        self.generator = GRU.decoder(
            cfg.co_dim + injected,
            cfg.gen_dim,
            cfg.gen_cell_input_weight_scale,
            cfg.gen_cell_rec_weight_scale,
        )
        # columns are normalised when used
        self.factor_weight = nn.Parameter(
            torch.randn(cfg.gen_dim, cfg.factors_dim).div_(math.sqrt(cfg.gen_dim))
        )

    @property
    def feedback_dim(self) -> int:
        """Values of the previous bin that the controller sees: 0, F or D."""
        if not self.config.do_feed_factors_to_controller:
            return 0
        if self.feeds_rates:
            return next(iter(self.sessions.values())).data_dim
        return self.config.factors_dim

    def draw_noise(
        self, n_trials: int, n_bins: int, generator: torch.Generator | None = None
    ) -> Noise:
        """Draw the standard normals of one pass, from ``generator`` or torch's global one."""
        cfg, like = self.config, self.factor_weight
        at = {"dtype": like.dtype, "device": like.device, "generator": generator}
        return Noise(
            torch.randn(n_trials, cfg.ic_dim, **at),  # type: ignore[call-overload]
            torch.randn(n_trials, n_bins, cfg.co_dim, **at),  # type: ignore[call-overload]
        )

    def draw_data_mask(
        self, n_trials: int, n_bins: int, session: str, generator: torch.Generator | None = None
    ) -> Tensor | None:
        """Draw the dropout mask of the data (B, T, D); None if there is no dropout."""
        if self.config.keep_prob == 1:
            return None
        shape = (n_trials, n_bins, self.sessions[session].data_dim)
        return dropout_mask(shape, self.config.keep_prob, self.factor_weight, generator)

    def draw_masks(
        self, n_trials: int, n_bins: int, generator: torch.Generator | None = None
    ) -> Masks:
        """Draw the other masks of one training pass, from ``generator`` or torch's global one."""
        cfg = self.config
        if cfg.keep_prob == 1:
            return NO_DROPOUT
        encodings = (1 if cfg.do_causal_controller else 2) * cfg.ci_enc_dim if cfg.co_dim else 0
        shapes = {
            "ext_input": (n_trials, n_bins, self.ext_input_dim),
            "ic_encoding": (n_trials, 2 * cfg.ic_enc_dim if cfg.ic_dim else 0),
            "con_input": (n_trials, n_bins, encodings),
            "feedback": (n_trials, n_bins, self.feedback_dim if cfg.co_dim else 0),
            "generator": (n_trials, n_bins, cfg.gen_dim),
        }
        how = (cfg.keep_prob, self.factor_weight, generator)
        return Masks(**{k: dropout_mask(shape, *how) for k, shape in shapes.items() if shape[-1]})

    def forward(
        self,
        data: Tensor,
        session: str,
        ext_input: Tensor | None = None,
        noise: Noise | None = None,
        masks: Masks = NO_DROPOUT,
        visibility: Visibility = WHOLE,
        *,
        use_means: bool = False,
    ) -> LFADSOutput:
        """Infer initial condition, inputs, factors and rates of a batch of one session.

        Args:
            data: (B, T, D) counts (or values), of any numeric type.
            session: the session whose read-in and read-out to use.
            ext_input: (B, T, I), if the model has external inputs.
            noise: standard normals; drawn if None.
            masks: dropout masks; none by default.
            visibility: what the encoders see of the data, and the length of each trial; everything
                by default.
            use_means: drive the generator with posterior means (posterior_push_mean).
        """
        if noise is None:
            noise = self.draw_noise(data.shape[0], data.shape[1])
        encoding = self.encode(data, session, ext_input, masks, visibility)
        return self.decode(encoding, data.shape[1], session, noise, masks, use_means=use_means)

    def encode(
        self,
        data: Tensor,
        session: str,
        ext_input: Tensor | None = None,
        masks: Masks = NO_DROPOUT,
        visibility: Visibility = WHOLE,
    ) -> Encoding:
        """Run read-in and encoders; arguments as in :meth:`forward`."""
        cfg, lengths = self.config, self.encoded.lengths(visibility.lengths)
        x = time_major(data).to(self.factor_weight.dtype)
        # (B, T, D) -> encoded bins and channels
        if self.standardise:
            x = self.standardise[session_key(session)](self.encoded.part(x, session))
            if visibility.shown is not None:
                x = x * self.encoded.part(visibility.shown, session)
        else:
            x = self.encoded.part(masked(x, visibility.shown), session)
        if self.readin:
            x = self.readin[session_key(session)](x)  # (B, T, D) -> (B, T, F)
        ext = None
        if self.ext_input_dim > 0 and ext_input is not None:
            ext = masked(time_major(ext_input).to(x.dtype), masks.ext_input)
            if not cfg.inject_ext_input_to_gen:
                x = time_major(torch.cat([x, self.encoded.bins(ext)], dim=2))
        ic_mean = ic_logvar = ic_fwd = ic_rev = con_input = ci_fwd = ci_rev = None
        encoders: list[tuple[Bidirectional, Tensor, Tensor | None]] = []
        if cfg.ic_dim > 0:
            window, size = x[:, : cfg.num_steps_for_gen_ic], cfg.encoder_bin_size
            within = None
            if lengths is not None:
                within = -(-lengths.clamp(max=window.shape[1]) // size)
            encoders.append((self.ic_encoder, coarser(window, size), within))
        if cfg.co_dim > 0:
            encoders.append((self.ci_encoder, x, lengths))
        encoded = run_encoders(encoders, self.passes)
        if cfg.ic_dim > 0:
            ic_fwd, ic_rev, ends = encoded[0]
            ic_encoding = masked(ends, masks.ic_encoding)  # (B, 2E)
            ic_mean, ic_logvar = self.ic_mean(ic_encoding), self.ic_logvar(ic_encoding)
            if cfg.ic_post_var_min > 0:
                ic_logvar = (ic_logvar.exp() + cfg.ic_post_var_min).log()
        if cfg.co_dim > 0:
            ci_fwd, ci_rev, _ = encoded[-1]
            con_input = lagged(ci_fwd, ci_rev, cfg.controller_input_lag)
            con_input = masked(con_input, self.encoded.bins(masks.con_input))
        states = ic_fwd, ic_rev, ci_fwd, ci_rev
        return Encoding(ic_mean, ic_logvar, con_input, ext, *states, lengths)

    def decode(
        self,
        encoding: Encoding,
        n_bins: int,
        session: str,
        noise: Noise,
        masks: Masks = NO_DROPOUT,
        *,
        use_means: bool = False,
    ) -> LFADSOutput:
        """Sample (or take the means), run controller and generator, read out.

        Args:
            encoding: the encoding of n trials.
            n_bins: T.
            session: the session whose read-out to use.
            noise: (B, ...) standard normals. B is n, or a multiple: B/n samples per trial, where
                row r is a sample of trial r mod n.
            masks: dropout masks; none by default.
            use_means: drive the generator with posterior means.
        """
        ext = encoding.ext_input if self.config.inject_ext_input_to_gen else None
        held = next((e for e in (encoding.ic_mean, encoding.con_input, ext) if e is not None), None)
        samples = 1 if held is None else len(noise.ic) // len(held)
        if encoding.ic_mean is None or encoding.ic_logvar is None:
            gen_ics = self.gen_ic.expand(len(noise.ic), -1)
        else:
            z = encoding.ic_mean.repeat(samples, 1)
            if not use_means:
                z = z + (0.5 * encoding.ic_logvar).exp().repeat(samples, 1) * noise.ic
            gen_ics = self.start_state(z)
        ext = ext if ext is None or samples == 1 else ext.repeat(samples, 1, 1)
        controller = self._controller_inputs(encoding, session, noise, masks, use_means)
        if controller is None or self.encoded.forward_steps == 0:
            states = self._run(gen_ics, controller, n_bins, ext, masks.generator)
        else:
            lengths = encoding.lengths
            lengths = lengths if lengths is None or samples == 1 else lengths.repeat(samples)
            given = (controller, noise.co, ext, masks.generator, self.encoded.forward_steps)
            states = foresee(self._run, self.co_prior, gen_ics, *given, lengths)
        log_rates, extras = self.read_out(states.factors, session)
        layer = session_layer(self.readout, session)
        weight = None if layer is None else layer.weight
        how = (self.noise_model, self.config._clip_value)
        return LFADSOutput(gen_ics, states, log_rates, extras, weight, encoding, *how)

    def _run(
        self,
        gen_ics: Tensor,
        controller: ControllerInputs | None,
        n_bins: int,
        inputs: Tensor | None,
        mask: Tensor | None,
    ) -> DecoderStates:
        return self.passes.decoder_pass(
            gen_ics,
            self.generator.weights,
            self.normalised_factor_weight(),
            controller,
            n_bins=n_bins,
            clip=self.config.cell_clip_value,
            ext_input=inputs,
            gen_mask=mask,
        )

    def _controller_inputs(
        self,
        encoding: Encoding,
        session: str,
        noise: Noise,
        masks: Masks,
        use_means: bool,
    ) -> ControllerInputs | None:
        if encoding.con_input is None:
            return None
        return ControllerInputs(
            weights=self.controller.weights,
            initial_state=self.con_ic,
            encodings=encoding.con_input,
            posterior_weight=torch.cat([self.co_mean.weight, self.co_logvar.weight], dim=1),
            posterior_bias=torch.cat([self.co_mean.bias, self.co_logvar.bias]),
            noise=self.encoded.bins(noise.co),
            drive_with_means=use_means,
            do_feed=self.config.do_feed_factors_to_controller,
            feedback_mask=self.encoded.bins(masks.feedback),
            feedback_rates=self._readout_map(session) if self.feeds_rates else None,
        )

    def _readout_map(self, session: str) -> Readout:
        layer = session_layer(self.readout, session)
        return Readout(
            None if layer is None else layer.weight,
            None if layer is None else layer.bias,
            noise_model=self.noise_model,
            clip=self.config._clip_value,
        )

    def start_state(self, z: Tensor) -> Tensor:
        """Map the initial-condition code (B, Z) to the generator's start state (B, G)."""
        return z if self.ic_to_gen is None else self.ic_to_gen(z)

    def normalised_factor_weight(self) -> Tensor:
        """Return the generator-to-factors matrix (G, F), with columns of length 1."""
        norm = self.factor_weight.square().sum(0).clamp(min=1e-12).sqrt()
        return self.factor_weight / norm

    def read_out(self, factors: Tensor, session: str) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Map factors (B, T, F) to log-rates (for real values: means), and the model's extras."""
        layers = self.extra_readouts.values()
        extras = tuple(layer[session_key(session)](factors) for layer in layers)
        return self._readout_map(session).log_rates(factors), extras

    def generate(
        self,
        z: Tensor | None,
        u: Tensor | None,
        session: str,
        ext_input: Tensor | None,
        n_bins: int,
    ) -> tuple[Tensor, DecoderStates, Tensor]:
        """Run the generator alone, on a given code and given inputs (prior_sample).

        Args:
            z: (B, Z); None for a model without initial-condition code, which has one start state.
            u: (B, T, U), or None without inferred inputs.
            session: the session whose read-out to use.
            ext_input: (B, T, I), if external inputs are injected into the generator.
            n_bins: T.

        Returns:
            Start states (B, G), decoder states, output parameters (B, T, P D).
        """
        inputs = [part for part in (u, ext_input) if part is not None]
        gen_ics = self.gen_ic.expand(1, -1) if z is None else self.start_state(z)
        if inputs:
            gen_ics = gen_ics.expand(inputs[0].shape[0], -1)
        joint = torch.cat(inputs, dim=2) if inputs else None
        states = self._run(gen_ics, None, n_bins, joint, None)
        clip = self.config._clip_value
        params = self.noise_model.params(*self.read_out(states.factors, session), clip)
        return gen_ics, states, params
