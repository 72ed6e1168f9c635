"""A trained generator: autoencoder, denoiser, schedule, latent statistics and the spec of the data it imitates."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import UNet2DModel
from torch import Tensor

from torchgeo_specdm.checkpoint import (
    FORMAT,
    check_folder,
    load_network,
    read_json,
    save_network,
    write_folder,
    write_json,
)
from torchgeo_specdm.diffusion import NoiseSchedule, solve
from torchgeo_specdm.errors import CheckpointError, SpecDMError
from torchgeo_specdm.models import TwoStreamAutoencoder
from torchgeo_specdm.spec import DatasetSpec, class_index

# The stochastic one corrects the errors of a denoiser that was trained for a short time: docs/results.md, solvers
SOLVER_DEFAULTS = {'solver': 'sde-dpmsolver++', 'steps': 20}


def index_generator(seed: int, index: int) -> torch.Generator:
    """The CPU generator of sample ``index``: its noise depends on ``seed`` and ``index`` alone."""
    state = np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def load_autoencoder(folder: Path) -> TwoStreamAutoencoder:
    """The autoencoder in ``folder``.

    Raises:
        CheckpointError: The folder is missing or damaged.
    """
    return cast(TwoStreamAutoencoder, load_network(folder, lambda config: TwoStreamAutoencoder(**config)))


class SpecDMPipeline:
    """Samples image-mask pairs.

    Args:
        spec: The dataset that the generator imitates.
        autoencoder: Decodes joint latents.
        denoiser: Predicts what ``schedule`` says in normalised joint latents.
        latent_mean: Mean of each latent channel, ``(Z,)``.
        latent_std: Standard deviation of each latent channel, ``(Z,)``.
        schedule: The forward process of the training.
        solver_defaults: ``solver`` and ``steps`` where a caller names none.
        training: How the generator was trained: ``command`` and anything else worth keeping.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        autoencoder: TwoStreamAutoencoder,
        denoiser: UNet2DModel,
        latent_mean: Tensor,
        latent_std: Tensor,
        schedule: NoiseSchedule | None = None,
        solver_defaults: Mapping[str, Any] = SOLVER_DEFAULTS,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        autoencoder.check_patch_size(spec)
        channels = sum(autoencoder.latent_channels)
        if not denoiser.config.in_channels == len(latent_mean) == len(latent_std) == channels:
            raise SpecDMError(
                f'the autoencoder has {channels} latent channels, the denoiser {denoiser.config.in_channels} '
                f'and the latent statistics {len(latent_mean)}: they do not belong together'
            )
        self.spec = spec
        self.autoencoder = autoencoder.eval()
        self.denoiser = denoiser.eval()
        self.latent_mean = latent_mean.float()
        self.latent_std = latent_std.float()
        self.schedule = schedule or NoiseSchedule()
        self.solver_defaults = dict(solver_defaults)
        self.training = dict(training or {})

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.denoiser.parameters()).device  # type: ignore[no-any-return]

    def to(self, device: torch.device | str) -> 'SpecDMPipeline':
        """Move the networks to ``device``."""
        self.autoencoder.to(device)
        self.denoiser.to(device)
        return self

    @torch.no_grad()
    def sample(
        self,
        indices: Sequence[int],
        *,
        seed: int = 0,
        steps: int | None = None,
        solver: str | None = None,
        progress: bool = False,
    ) -> dict[str, Tensor]:
        """Generate the samples of these indices as one batch.

        Args:
            indices: Which samples; each is a function of its index and the seed (up to rounding of the arithmetic,
                which the size of the batch may change in the last bits).
            seed: Names one endless dataset of this checkpoint.
            steps: Time steps of the solver.
            solver: A name in :data:`torchgeo_specdm.diffusion.SOLVERS`.
            progress: Show a progress bar.

        Returns:
            ``image`` ``(N, *spec.image_shape)`` float32 in the dataset's unit, rounded where its type is an integer,
            and ``mask`` ``(N, *spec.mask_shape)`` int64; on the CPU.
        """
        size = self.spec.patch_size // self.autoencoder.downsample
        z = solve(
            lambda z, t: self.denoiser(z, t).sample,
            (len(self.latent_mean), size, size),
            [index_generator(seed, index) for index in indices],
            self.schedule,
            solver=solver or self.solver_defaults['solver'],
            steps=steps or self.solver_defaults['steps'],
            device=self.device,
            progress=progress,
        )
        mean, std = (value.view(1, -1, 1, 1).to(z) for value in (self.latent_mean, self.latent_std))
        image, logits = self.autoencoder.decode(z * std + mean)
        return {'image': self._as_stored(image).cpu(), 'mask': class_index(logits, self.spec.task).cpu()}

    def _as_stored(self, image: Tensor) -> Tensor:
        dtype = np.dtype(self.spec.dtype)
        if not np.issubdtype(dtype, np.integer):
            return image.float()
        limits = np.iinfo(dtype)
        return image.float().round().clamp(limits.min, limits.max)

    def save_pretrained(self, folder: str | Path, half_precision: bool = False) -> None:
        """Write the checkpoint; a folder that exists is replaced as a whole.

        Args:
            folder: Where to.
            half_precision: Store the weights as float16, half the size; they are loaded as float32 all the same.
        """
        write_folder(Path(folder), lambda partial: self._write(partial, half_precision))

    def _write(self, folder: Path, half_precision: bool) -> None:
        streams = zip(('image', 'mask'), (self.spec.num_dates, 1), self.autoencoder.latent_channels, strict=True)
        write_json(
            folder / 'specdm.json',
            {
                'format': FORMAT,
                'spec': self.spec.to_dict(),
                'streams': [{'name': n, 'encoder': n, 'dates': d, 'channels': c} for n, d, c in streams],
                'latents': {'mean': self.latent_mean.tolist(), 'std': self.latent_std.tolist()},
                'solver': self.solver_defaults,
                'training': {'command': shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])} | self.training,
                'licence': self.spec.licence,
                'attribution': self.spec.attribution,
            },
        )
        save_network(self.autoencoder, self.autoencoder.config, folder / 'autoencoder', half_precision)
        save_network(self.denoiser, dict(self.denoiser.config), folder / 'denoiser', half_precision)
        write_json(folder / 'scheduler' / 'scheduler_config.json', self.schedule.to_dict())

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: torch.device | str = 'cpu') -> 'SpecDMPipeline':
        """Load a checkpoint.

        Raises:
            CheckpointError: The folder is missing, damaged, of a newer format or holds a pickle.
        """
        folder = Path(folder)
        values = _read_description(folder)
        schedule = read_json(folder / 'scheduler' / 'scheduler_config.json')
        autoencoder = load_autoencoder(folder / 'autoencoder')
        denoiser = load_network(folder / 'denoiser', lambda config: UNet2DModel.from_config(config))
        try:
            pipeline = cls(
                DatasetSpec.from_dict(values['spec']),
                autoencoder,
                denoiser,
                torch.tensor(values['latents']['mean'], dtype=torch.float32),
                torch.tensor(values['latents']['std'], dtype=torch.float32),
                NoiseSchedule(**schedule),
                values['solver'],
                values.get('training'),
            )
        except (KeyError, TypeError, SpecDMError) as error:
            raise CheckpointError(f'{folder}: specdm.json does not fit the networks ({error})') from error
        return pipeline.to(device)

    @staticmethod
    def read_spec(folder: str | Path) -> DatasetSpec:
        """The spec of a checkpoint, without loading its weights.

        Raises:
            CheckpointError: As for :meth:`from_pretrained`.
        """
        folder = Path(folder)
        values = _read_description(folder)
        try:
            return DatasetSpec.from_dict(values['spec'])
        except (KeyError, TypeError, SpecDMError) as error:
            raise CheckpointError(f'{folder / "specdm.json"} holds no valid spec ({error})') from error


def _read_description(folder: Path) -> dict[str, Any]:
    check_folder(folder)
    values = read_json(folder / 'specdm.json')
    found = values.get('format')
    if not isinstance(found, int) or found < 1:
        raise CheckpointError(f'{folder / "specdm.json"} declares no format')
    if found > FORMAT:
        raise CheckpointError(
            f'{folder} has checkpoint format {found}, this release reads up to {FORMAT}: upgrade torchgeo-specdm'
        )
    return values
