"""A trained generator: autoencoder, denoiser, schedule, latent statistics and the spec of the data it imitates."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from torchgeo_specdm.catalogue import resolve
from torchgeo_specdm.checkpoint import (
    FORMAT,
    check_folder,
    load_network,
    read_json,
    save_network,
    write_folder,
    write_json,
)
from torchgeo_specdm.diffusion import Clocks, Denoiser, NoiseSchedule, apart, guide, hold, solve, steer
from torchgeo_specdm.errors import CheckpointError, SpecDMError
from torchgeo_specdm.models import JointDenoiser, PairAutoencoder, build_autoencoder
from torchgeo_specdm.spec import DatasetSpec, class_index

# The stochastic one corrects the errors of a denoiser that was trained for a short time: docs/results.md, solvers
SOLVER_DEFAULTS = {'solver': 'sde-dpmsolver++', 'steps': 20}
# Guidance towards pairs of the requested class shares: docs/results.md, steering
GUIDANCE = 2.5
# Shares of a class at these quantiles of the train samples in which it occurs are kept
_QUANTILES = torch.linspace(0, 1, 21)


# The purposes of a sample's draws beside its noise: that of given streams, and what stands for a side out of sight
_GIVEN_NOISE, _SIDE_NOISE = 1, 3


def index_generator(seed: int, index: int, purpose: int = 0) -> torch.Generator:
    """The CPU generator of sample ``index``: its draws depend on ``seed``, ``index`` and their ``purpose`` alone."""
    words = (seed, index, purpose) if purpose else (seed, index)
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def load_autoencoder(folder: Path) -> PairAutoencoder:
    """The autoencoder in ``folder``.

    Raises:
        CheckpointError: The folder is missing or damaged.
    """
    return cast(PairAutoencoder, load_network(folder, build_autoencoder))


def share_quantiles(shares: Tensor) -> Tensor:
    """How much of a sample each class takes where it occurs.

    Args:
        shares: Share of each class in each sample, ``(N, K)``.

    Returns:
        21 even quantiles of each class over the samples that hold it, ``(K, 21)``; zeros for a class that none holds.
    """
    rows = []
    for column in shares.T:
        present = column[column > 0]
        rows.append(present.quantile(_QUANTILES.to(present)) if len(present) else torch.zeros(len(_QUANTILES)))
    return torch.stack(rows)


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
        shares: Quantiles of the class shares of the train samples, see :func:`share_quantiles`.
        absent: Whether the denoiser has learned images without masks and masks without images; ``agreement`` needs it.

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
    ) -> None:
        autoencoder.check_patch_size(spec)
        channels = autoencoder.channels
        if not denoiser.channels == len(latent_mean) == len(latent_std) == channels:
            raise SpecDMError(
                f'the autoencoder has {channels} latent channels, the denoiser {denoiser.channels} '
                f'and the latent statistics {len(latent_mean)}: they do not belong together'
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
            progress: Show a progress bar.

        Returns:
            ``image`` ``(N, *spec.image_shape)`` float32 in the dataset's unit, rounded where its type is an integer,
            and ``mask`` ``(N, *spec.mask_shape)`` int64; on the CPU.

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
        made = {'image': self._as_stored(image).cpu(), 'mask': class_index(logits, self.spec.task).cpu()}
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
            return torch.where(asked.isnan(), 0, obtained - asked).norm(dim=1)

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
        write_json(
            folder / 'specdm.json',
            {
                'format': FORMAT,
                'spec': self.spec.to_dict(),
                'streams': [asdict(stream) for stream in self.autoencoder.streams],
                'latents': {'mean': self.latent_mean.tolist(), 'std': self.latent_std.tolist()},
                'class_shares': None if self.shares is None else self.shares.tolist(),
                'absent': self.absent,
                'solver': self.solver_defaults,
                'training': {'command': shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])} | self.training,
                'licence': self.spec.licence,
                'attribution': self.spec.attribution,
            },
        )
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
            CheckpointError: The checkpoint is missing, damaged, of a newer format or holds a pickle, or cannot be
                downloaded.
        """
        folder = resolve(checkpoint)
        values = _read_description(folder)
        schedule = read_json(folder / 'scheduler' / 'scheduler_config.json')
        autoencoder = load_autoencoder(folder / 'autoencoder')
        denoiser = load_network(folder / 'denoiser', lambda config: JointDenoiser(**config))
        shares = values.get('class_shares')
        try:
            pipeline = cls(
                DatasetSpec.from_dict(values['spec']),
                autoencoder,
                cast(JointDenoiser, denoiser),
                torch.tensor(values['latents']['mean'], dtype=torch.float32),
                torch.tensor(values['latents']['std'], dtype=torch.float32),
                NoiseSchedule(**schedule),
                values['solver'],
                values.get('training'),
                None if shares is None else torch.tensor(shares, dtype=torch.float32),
                bool(values.get('absent', False)),
            )
        except (KeyError, TypeError, SpecDMError) as error:
            raise CheckpointError(f'{folder}: specdm.json does not fit the networks ({error})') from error
        return pipeline.to(device)

    @staticmethod
    def read_conditions(checkpoint: str | Path) -> frozenset[str]:
        """What the samples of a checkpoint can be made to fit, without loading its weights.

        Returns:
            Names that :meth:`sample` takes in ``given``, and ``shares`` and ``agreement`` where it takes those.

        Raises:
            CheckpointError: As for :meth:`from_pretrained`.
        """
        folder = resolve(checkpoint)
        values, config = _read_description(folder), read_json(folder / 'denoiser' / 'config.json')
        streams = {stream['name'] for stream in values['streams']} if config.get('clocks', 1) > 1 else set()
        dates = {'image'} if 'image1' in streams else set()
        others = {'shares': config.get('num_classes'), 'agreement': values.get('absent')}
        return frozenset(streams | dates | {name for name, taken in others.items() if taken})

    @staticmethod
    def read_spec(checkpoint: str | Path) -> DatasetSpec:
        """The spec of a checkpoint, without loading its weights.

        Raises:
            CheckpointError: As for :meth:`from_pretrained`.
        """
        folder = resolve(checkpoint)
        values = _read_description(folder)
        try:
            return DatasetSpec.from_dict(values['spec'])
        except (KeyError, TypeError, SpecDMError) as error:
            raise CheckpointError(f'{folder / "specdm.json"} holds no valid spec ({error})') from error

    @staticmethod
    def read_solver(checkpoint: str | Path) -> str:
        """The solver of a checkpoint where a caller names none, without loading its weights.

        Raises:
            CheckpointError: As for :meth:`from_pretrained`.
        """
        folder = resolve(checkpoint)
        try:
            return str(_read_description(folder)['solver']['solver'])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f'{folder / "specdm.json"} names no solver ({error})') from error


def _read_description(folder: Path) -> dict[str, Any]:
    check_folder(folder)
    values = read_json(folder / 'specdm.json')
    found = values.get('format')
    if not isinstance(found, int) or found < 1:
        raise CheckpointError(f'{folder / "specdm.json"} declares no format: it describes no checkpoint')
    if found > FORMAT:
        raise CheckpointError(
            f'{folder} has checkpoint format {found}, this release reads up to {FORMAT}: upgrade torchgeo-specdm'
        )
    return values
