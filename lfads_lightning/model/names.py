"""Our parameters under the original implementation's variable names (reference: TensorFlow 1)."""

import torch
from torch import Tensor

from lfads_lightning.model.cells import GRU
from lfads_lightning.model.layers import Bidirectional, session_key
from lfads_lightning.model.lfads import LFADS


def variable_blocks(model: LFADS) -> dict[str, list[Tensor]]:
    """Map the original's variable names to our parameters.

    The original keeps an encoder's input and recurrent weights in one matrix; our parameters are
    blocks of its rows. Biases are (1, n) there and (n,) here.

    Returns:
        Names without the ``LFADS/`` prefix and the ``:0`` suffix, with blocks from top to bottom.
    """
    blocks: dict[str, list[Tensor]] = {}
    for name in model.sessions:
        key = session_key(name)
        if key in model.readin:
            blocks |= _affine(f"x_2_infac_{name}", model.readin[key])
        if key in model.readout:
            what = model.noise_model.variable
            blocks |= _affine(f"glm/fac_2_{what}_{name}", model.readout[key])
        for extra, layers in model.extra_readouts.items():
            blocks |= _affine(f"glm/fac_2_{extra}s_{name}", layers[key])
    if model.config.ic_dim > 0:
        blocks |= _encoder("ic_enc", model.ic_encoder)
        blocks |= _affine("z/ic_enc_2_post_g0/mean", model.ic_mean)
        blocks |= _affine("z/ic_enc_2_post_g0/logvar", model.ic_logvar)
        blocks["z/prior_g0/mean"] = [model.ic_prior.mean]
        blocks["z/prior_g0/logvar"] = [model.ic_prior.raw_logvar]
        if model.ic_to_gen is not None:
            blocks |= _affine("gen/g0_2_gen_ic", model.ic_to_gen)
    else:
        blocks["gen/g0"] = [model.gen_ic]
    if model.config.co_dim > 0:
        blocks |= _encoder("ci_enc", model.ci_encoder)
        blocks |= {
            "z/u_prior_ar1/logevars": [model.co_prior.log_innovation_var],
            "z/u_prior_ar1/logatau": [model.co_prior.log_tau],
            "con/c0": [model.con_ic],
        }
        blocks |= _decoder("con", model.controller)
        blocks |= _affine("con/con_to_post_co/mean", model.co_mean)
        blocks |= _affine("con/con_to_post_co/logvar", model.co_logvar)
    blocks |= _decoder("gen", model.generator)
    blocks["gen/gen_2_fac/W"] = [model.factor_weight]
    return blocks


def _affine(name: str, layer: torch.nn.Module) -> dict[str, list[Tensor]]:
    letters = {"weight": "W", "bias": "b"}
    return {f"{name}/{letters[part]}": [p] for part, p in layer.named_parameters()}


def _encoder(name: str, encoder: Bidirectional) -> dict[str, list[Tensor]]:
    blocks: dict[str, list[Tensor]] = {}
    for way, gru, start in (
        ("fwd", encoder.fwd, encoder.fwd_start),
        ("rev", encoder.rev, encoder.rev_start),
    ):
        if gru is None or start is None:
            continue
        scope = f"{name}_{way}"
        blocks |= {
            f"{scope}/{name}_t0_{way}": [start],
            f"{scope}/GRU/Gates/xh_2_ru/W": [gru.input_gates, gru.gates],
            f"{scope}/GRU/Gates/xh_2_ru/b": [gru.gates_bias],
            f"{scope}/GRU/Candidate/xrh_2_c/W": [gru.input_candidate, gru.candidate],
            f"{scope}/GRU/Candidate/xrh_2_c/b": [gru.candidate_bias],
        }
    return blocks


def _decoder(name: str, gru: GRU) -> dict[str, list[Tensor]]:
    scope = f"{name}/GenGRU"
    blocks: dict[str, list[Tensor]] = {
        f"{scope}/Gates/h_2_ru/W": [gru.gates],
        f"{scope}/Gates/h_2_ru/b": [gru.gates_bias],
        f"{scope}/Candidate/rh_2_c/W": [gru.candidate],
        f"{scope}/Candidate/rh_2_c/b": [gru.candidate_bias],
    }
    if gru.input_gates.shape[0] > 0:
        blocks[f"{scope}/Gates/x_2_ru/W"] = [gru.input_gates]
        blocks[f"{scope}/Candidate/x_2_c/W"] = [gru.input_candidate]
    return blocks


def to_original(model: LFADS) -> dict[str, Tensor]:
    """Return the weights under the original's names, ``LFADS/<scope>/<name>:0``."""
    return {f"LFADS/{name}:0": joined(parts) for name, parts in variable_blocks(model).items()}


def joined(parts: list[Tensor]) -> Tensor:
    """Join blocks into the original's variable; a bias becomes (1, n)."""
    whole = torch.cat([p.detach() for p in parts])
    return whole[None] if whole.ndim == 1 else whole
