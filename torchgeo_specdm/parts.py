"""The parts of a trained generator, read from a checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from torchgeo_specdm.checkpoint import load_network
from torchgeo_specdm.description import read_description, read_schedule
from torchgeo_specdm.errors import CheckpointError
from torchgeo_specdm.models import JointDenoiser, PairAutoencoder, build_autoencoder
from torchgeo_specdm.typed import construct


def load_autoencoder(folder: Path) -> PairAutoencoder:
    """The autoencoder in ``folder``.

    Raises:
        CheckpointError: The folder is missing or damaged.
    """
    return cast(PairAutoencoder, load_network(folder, build_autoencoder))


def load_denoiser(folder: Path) -> JointDenoiser:
    """The denoiser in ``folder``.

    Raises:
        CheckpointError: The folder is missing or damaged.
    """
    return cast(JointDenoiser, load_network(folder, lambda config: construct(JointDenoiser, config, 'config.json')))


def load_parts(folder: Path) -> dict[str, Any]:
    """The arguments of :class:`~torchgeo_specdm.pipeline.SpecDMPipeline` in the checkpoint ``folder``.

    Raises:
        CheckpointError: It is missing, damaged, unsafe or of a newer format, or its parts are of several checkpoints.
    """
    described, schedule = read_description(folder), read_schedule(folder)
    autoencoder = load_autoencoder(folder / 'autoencoder')
    if described.streams != autoencoder.streams:
        raise CheckpointError(
            f'{folder}: specdm.json and the autoencoder have other streams: copy the checkpoint again'
        )
    return {
        'spec': described.spec,
        'autoencoder': autoencoder,
        'denoiser': load_denoiser(folder / 'denoiser'),
        'latent_mean': torch.tensor(described.latents.mean),
        'latent_std': torch.tensor(described.latents.std),
        'schedule': schedule,
        'solver_defaults': described.solver,
        'training': described.training,
        'shares': _tensor(described.class_shares),
        'share_rows': _tensor(described.share_rows),
        'absent': described.absent,
    }


def _tensor(rows: Sequence[Sequence[float]] | None) -> Tensor | None:
    return None if rows is None else torch.tensor(rows)
