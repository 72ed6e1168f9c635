"""A trained generator: autoencoder, denoiser, schedule, latent statistics and the spec of the data it imitates."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgeo_specdm.catalogue import resolve
from torchgeo_specdm.checkpoint import FORMAT, save_network, write_folder, write_json
from torchgeo_specdm.description import Description, Latents, read_conditions, read_description
from torchgeo_specdm.diffusion import Clocks, Denoiser, NoiseSchedule, apart, guide, hold, index_generator, solve, steer
from torchgeo_specdm.errors import CheckpointError, SpecDMError
from torchgeo_specdm.models import JointDenoiser, PairAutoencoder
from torchgeo_specdm.parts import load_parts
from torchgeo_specdm.spec import DatasetSpec, class_index, float32_limits

# The stochastic one corrects the errors of a denoiser that was trained for a short time: docs/history.md, Solvers
SOLVER_DEFAULTS = {'solver': 'sde-dpmsolver++', 'steps': 20}
# Guidance towards pairs of the requested class shares: docs/results.md, Steering
GUIDANCE = 2.5

# The purposes of a sample's draws beside its noise: that of given streams, and what stands for a side out of sight
_GIVEN_NOISE, _SIDE_NOISE = 1, 3


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
        shares: Quantiles of the class shares of the train samples, ``(K, 21)``, see :func:`share_quantiles`.
        absent: Whether the denoiser has learned images without masks and masks without images; ``agreement`` needs it.
        share_rows: Class shares of some of the train samples, ``(R, K)``, see :func:`share_rows`.

    Raises:
        SpecDMError: The parts do not belong together.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        autoencoder: PairAutoencoder,
        denoiser: JointDenoiser,
        latent_mean: Tensor,
        latent_std: Tensor,
        schedule: NoiseSchedule | None = None,
        solver_defaults: Mapping[str, Any] = SOLVER_DEFAULTS,
        training: Mapping[str, Any] | None = None,
        shares: Tensor | None = None,
        absent: bool = False,
        share_rows: Tensor | None = None,
    ) -> None:
        autoencoder.check_patch_size(spec)
        channels = autoencoder.channels
        if not denoiser.channels == len(latent_mean) == len(latent_std) == channels:
            raise SpecDMError(
                f'the autoencoder has {channels} latent channels, the denoiser {denoiser.channels} '
                f'and the latent statistics {len(latent_mean)}: they do not belong together'
            )
        made = (autoencoder.task, len(autoencoder.gain), autoencoder.num_classes)
        if made != (spec.task, spec.num_bands, spec.num_classes):
            raise SpecDMError(
                f'the autoencoder is of {made[0]} with {made[1]} bands and {made[2]} classes, not of {spec.name}'
            )
        if denoiser.clocks not in (1, len(autoencoder.streams)):
            raise SpecDMError(
                f'the denoiser has {denoiser.clocks} clocks for {len(autoencoder.streams)} streams of the autoencoder'
            )
        self.spec = spec
        self.autoencoder = autoencoder.eval()
        self.denoiser = denoiser.eval()
        self.latent_mean = latent_mean.float()
        self.latent_std = latent_std.float()
        self.schedule = schedule or NoiseSchedule()
        self.solver_defaults = dict(solver_defaults)
        self.training = dict(training or {})
        self.shares = shares
        self.absent = absent
        self.share_rows = share_rows

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
        given: Mapping[str, Tensor] | None = None,
        shares: Tensor | None = None,
        guidance: float | None = None,
        agreement: float = 1.0,
        device: torch.device | str = 'cpu',
        progress: bool = False,
    ) -> dict[str, Tensor]:
        """Generate the samples of these indices as one batch.

        Args:
            indices: Which samples; each is a function of its index and the seed (up to rounding of the arithmetic,
                which the size of the batch may change in the last bits).
            seed: Names one endless dataset of this checkpoint.
            steps: Time steps of the solver.
            solver: A name in :data:`torchgeo_specdm.diffusion.SOLVERS`.
            given: Batches of N from which the rest is generated: ``mask``, ``image`` (all dates), or, where each date
                is a stream, ``image1`` and ``image2``; shaped and in units as in the result, in which they stand.
            shares: The share of pixels that each class shall have, ``(N, K)``; NaN leaves a class free. Masks are
                steered there, unless they are given.
            guidance: How strongly to prefer pairs of such ``shares``; 1 does not, more costs a second evaluation of
                each step.
            agreement: How strongly to pull images and masks towards those that go together; 1 does not, another value
                takes three evaluations of each step. The generator must have been trained with ``absent``.
            device: Where the samples go.
            progress: Show a progress bar.

        Returns:
            ``image`` ``(N, *spec.image_shape)`` float32 in the dataset's unit, rounded where its type is an integer,
            and ``mask`` ``(N, *spec.mask_shape)`` int64; on ``device``.

        Raises:
            SpecDMError: The generator was not trained for what is given or requested, or shapes do not fit.
        """
        size = self.spec.patch_size // self.autoencoder.downsample
        shape = (self.autoencoder.channels, size, size)

        def noise(purpose: int) -> Tensor:
            return torch.stack([torch.randn(shape, generator=index_generator(seed, i, purpose)) for i in indices])

        denoiser: Denoiser = self.denoiser
        if shares is not None:
            denoiser = self._conditional(len(indices), shares, guidance)
        if agreement != 1:
            denoiser = self._agreeing(denoiser, agreement, noise(_SIDE_NOISE))
        if given:
            denoiser = self._given(denoiser, given, noise(_GIVEN_NOISE))
        if shares is not None and 'mask' not in (given or {}):
            denoiser = steer(denoiser, self.schedule, self._misses(shares.to(self.device, torch.float32)))
        z = solve(
            denoiser,
            shape,
            [index_generator(seed, index) for index in indices],
            self.schedule,
            solver=solver or self.solver_defaults['solver'],
            steps=steps or self.solver_defaults['steps'],
            device=self.device,
            progress=progress,
        )
        mean, std = self._statistics(z)
        image, logits = self.autoencoder.decode(z * std + mean)
        made = {'image': self._as_stored(image).to(device), 'mask': class_index(logits, self.spec.task).to(device)}
        for name, value in (given or {}).items():
            if name in made:
                made[name] = value.to(made[name])
            else:
                made['image'][:, int(name == 'image2')] = value.to(made['image'])
        return made

    def _conditional(self, count: int, shares: Tensor, guidance: float | None) -> Denoiser:
        """The denoiser with the class shares filled in."""
        if not self.denoiser.num_classes:
            raise SpecDMError('this generator was trained without class shares: fit it with class_control: true')
        if shares.shape != (count, self.spec.num_classes) or not ((shares >= 0) & (shares <= 1) | shares.isnan()).all():
            raise SpecDMError(
                f'shares must be {count} x {self.spec.num_classes} values between 0 and 1, NaN for free classes'
            )
        asked = shares.to(self.device, torch.float32)
        return guide(lambda z, t: self.denoiser(z, t, asked), self.denoiser, GUIDANCE if guidance is None else guidance)

    def _misses(self, asked: Tensor) -> Callable[[Tensor], Tensor]:
        """By how much the masks of normalised latents miss these shares, ``(N,)``."""

        def missed(z: Tensor) -> Tensor:
            mean, std = self._statistics(z)
            obtained = self.autoencoder.decode_mask(z * std + mean).softmax(1).mean((2, 3))
            # A norm has a slope of 1 towards its zero, and none there
            distance: Tensor = torch.where(asked.isnan(), 0, obtained - asked).norm(dim=1)
            return distance

        return missed

    def _agreeing(self, denoiser: Denoiser, agreement: float, noise: Tensor) -> Denoiser:
        """``denoiser`` that prefers images and masks that go together."""
        if not self.absent:
            raise SpecDMError(
                'this generator never learned images without masks, which agreement needs: fit it with absent > 0'
            )
        last = self.schedule.num_train_timesteps - 1
        alone = apart(denoiser, self._clocks, noise.to(self.device), last)
        return guide(denoiser, alone, agreement)

    def _given(self, denoiser: Denoiser, given: Mapping[str, Tensor], noise: Tensor) -> Denoiser:
        """``denoiser`` that sees the given streams."""
        if self.denoiser.clocks == 1:
            raise SpecDMError(
                'this generator has one clock for all streams and takes none as given: fit it with together < 1'
            )
        wrong = [name for name, value in given.items() if len(value) != len(noise)]
        if wrong:
            raise SpecDMError(f'given {wrong[0]} holds {len(given[wrong[0]])} samples for {len(noise)} indices')
        z, known = self.autoencoder.encode_given({name: value.to(self.device) for name, value in given.items()})
        mean, std = self._statistics(z)
        return hold(denoiser, (z - mean) / std, known, self._clocks, self.schedule, noise.to(z))

    @property
    def _clocks(self) -> Clocks:
        return Clocks(tuple(stream.channels for stream in self.autoencoder.streams))

    def _statistics(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.latent_mean.view(-1, 1, 1).to(z), self.latent_std.view(-1, 1, 1).to(z)

    def _as_stored(self, image: Tensor) -> Tensor:
        """Decoded images in the values of their type; ``image`` itself is changed."""
        if not np.issubdtype(np.dtype(self.spec.dtype), np.integer):
            return image.float()
        # In place: fresh memory for hundreds of bands takes longer than the arithmetic
        return image.float().round_().clamp_(*float32_limits(self.spec.dtype))

    def save_pretrained(self, folder: str | Path, half_precision: bool = False) -> None:
        """Write the checkpoint; a folder that exists is replaced as a whole.

        Args:
            folder: Where to.
            half_precision: Store the weights as float16, half the size; they are loaded as float32 all the same.
        """
        write_folder(Path(folder), lambda partial: self._write(partial, half_precision))

    def _write(self, folder: Path, half_precision: bool) -> None:
        described = Description(
            format=FORMAT,
            spec=self.spec,
            streams=self.autoencoder.streams,
            latents=Latents(tuple(self.latent_mean.tolist()), tuple(self.latent_std.tolist())),
            solver=self.solver_defaults,
            class_shares=_rows(self.shares),
            share_rows=_rows(self.share_rows),
            absent=self.absent,
            training={'command': shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])} | self.training,
            licence=self.spec.licence,
            attribution=self.spec.attribution,
        )
        write_json(folder / 'specdm.json', described.to_dict())
        save_network(self.autoencoder, self.autoencoder.config, folder / 'autoencoder', half_precision)
        save_network(self.denoiser, self.denoiser.config, folder / 'denoiser', half_precision)
        write_json(folder / 'scheduler' / 'scheduler_config.json', self.schedule.to_dict())

    @classmethod
    def from_pretrained(cls, checkpoint: str | Path, device: torch.device | str = 'cpu') -> 'SpecDMPipeline':
        """Load a checkpoint.

        Args:
            checkpoint: A folder, a name in :data:`torchgeo_specdm.catalogue.CATALOGUE` or ``hf://owner/name[@revision]``.
            device: Where the networks go.

        Raises:
            CheckpointError: The checkpoint is missing, damaged, unsafe or of a newer format, or cannot be downloaded.
        """
        folder = resolve(checkpoint)
        parts = load_parts(folder)
        try:
            return cls(**parts).to(device)
        except SpecDMError as error:
            raise CheckpointError(f'{folder}: specdm.json does not fit the networks ({error})') from error

    @staticmethod
    def read_conditions(checkpoint: str | Path) -> frozenset[str]:
        """What the samples of a checkpoint can be made to fit, without loading its weights.

        Returns:
            Names that :meth:`sample` takes in ``given``, and ``shares`` and ``agreement`` where it takes those.

        Raises:
            CheckpointError: As for :meth:`from_pretrained`.
        """
        return read_conditions(checkpoint)

    @staticmethod
    def read_spec(checkpoint: str | Path) -> DatasetSpec:
        """The spec of a checkpoint, without loading its weights.

        Raises:
            CheckpointError: As for :meth:`from_pretrained`.
        """
        return read_description(checkpoint).spec


def _rows(values: Tensor | None) -> tuple[tuple[float, ...], ...] | None:
    return None if values is None else tuple(map(tuple, values.tolist()))
