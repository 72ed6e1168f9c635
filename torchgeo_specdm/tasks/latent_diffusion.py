"""Stage 2: diffusion of the joint latents (sections 3.2 and 3.4 of the paper)."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

from torchgeo_specdm.catalogue import resolve
from torchgeo_specdm.datamodules.latents import LatentDataModule
from torchgeo_specdm.description import read_description
from torchgeo_specdm.diffusion import Clocks, LogitNormalClocks, NoiseSchedule, denoising_loss
from torchgeo_specdm.diffusion.schedule import Prediction
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.shares import share_quantiles, share_rows
from torchgeo_specdm.models import JointDenoiser
from torchgeo_specdm.parts import load_autoencoder, load_denoiser
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.sizes import AUTO
from torchgeo_specdm.tasks.generator import GeneratorTask, in_float32

_DISTANCES = {'l1': l1_loss, 'l2': mse_loss}


class LatentDiffusionTask(GeneratorTask):
    """Trains the denoiser on cached latents and writes the checkpoint to ``<root>/checkpoint``.

    The average of the weights, not the last ones, is validated and saved. Validation logs ``val_loss`` (equation 4 with
    fixed noise) and a picture of real and sampled pairs.

    Args:
        autoencoder: Folder that stage 1 wrote; ``<root>/autoencoder`` by default.
        pretrained: Checkpoint (folder, name or ``hf://owner/name``) of the same bands, units and classes, whose
            autoencoder is taken over and whose denoiser is trained further.
        widths: Channels of the denoiser per level, multiples of 32; ``auto`` for :mod:`torchgeo_specdm.sizes`.
        depth: Residual blocks of the denoiser per level.
        dropout: Share of features dropped in the denoiser.
        adaptive_norm: Whether the time scales and shifts the denoiser's normalised features; the paper's LDM adds it.
        fold: Folds this many latents a side into channels first; 2 quarters the places that the denoiser works on.
        beta_start: First beta of the noise schedule.
        beta_end: Last beta of the noise schedule.
        beta_schedule: ``scaled_linear`` is what LDM calls linear.
        prediction: What the denoiser predicts: ``epsilon`` (the noise, as in the paper) or ``v_prediction``.
        distance: Between prediction and truth: ``l1`` or ``l2``.
        lr: Peak learning rate.
        warmup_steps: Steps of linear warm-up.
        final_lr: Learning rate at the end, as a share of the peak; 1 keeps it constant.
        ema_decay: Decay of the average of the weights.
        dihedral: Learn from all eight orientations of each patch.
        orientations: Tell the denoiser the orientation, so that samples come out upright; needs ``dihedral``.
        together: Share of the samples whose streams are all noisy alike. In the others some streams are given, so that
            the denoiser learns images for a mask, masks for an image and the like. 1 leaves this out.
        absent: Share of these others in which that part is absent instead of given, so that the denoiser learns the
            rest by itself; ``agreement`` of :meth:`SpecDMPipeline.sample` needs it.
        class_control: Tell the denoiser the share of pixels of each class, each known in half of the samples.
        logit_normal_times: Learn from middle noise levels more often, see
            :class:`~torchgeo_specdm.diffusion.LogitNormalClocks`; from all time steps equally often by default.
        min_snr_gamma: Weigh time steps by their signal-to-noise ratio, cut at this value; none by default.
        half_precision: Write the checkpoint's weights as float16.
        compile: Compile the denoiser where one GPU trains it, and start the kernels of a step together (CUDA graphs):
            the first step takes a minute and a half, the others half of the time. Elsewhere it changes nothing.
    """

    output = 'checkpoint'
    model: JointDenoiser

    def __init__(
        self,
        autoencoder: str | None = None,
        pretrained: str | None = None,
        widths: Sequence[int] | Literal['auto'] = (192, 384, 384, 768, 768),
        depth: int = 2,
        dropout: float = 0.0,
        adaptive_norm: bool = True,
        fold: int = 1,
        beta_start: float = 0.0015,
        beta_end: float = 0.0155,
        beta_schedule: Literal['scaled_linear', 'linear'] = 'scaled_linear',
        prediction: Prediction = 'epsilon',
        distance: Literal['l1', 'l2'] = 'l2',
        lr: float = 2e-4,
        warmup_steps: int = 500,
        final_lr: float = 1.0,
        ema_decay: float = 0.999,
        dihedral: bool = True,
        orientations: bool = False,
        together: float = 1.0,
        absent: float = 0.0,
        class_control: bool = False,
        logit_normal_times: bool = False,
        min_snr_gamma: float | None = None,
        half_precision: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if orientations and not dihedral:
            raise SpecDMError('orientations tells the denoiser which orientation it sees: it needs dihedral: true')
        if pretrained and autoencoder:
            raise SpecDMError('pretrained brings its own autoencoder: leave autoencoder out')
        if not 0 <= together <= 1:
            raise SpecDMError(f'together is {together}; it must be a share between 0 and 1')
        if not 0 <= absent < 1:
            raise SpecDMError(f'absent is {absent}; it must be a share from 0 to below 1')
        self.save_hyperparameters()
        self.started_from: Mapping[str, Any] = {}
        self.schedule = NoiseSchedule(
            beta_start=beta_start, beta_end=beta_end, beta_schedule=beta_schedule, prediction_type=prediction
        )

    def wrap_datamodule(self, datamodule: LightningDataModule, root: Path) -> LightningDataModule:
        """Cached latents of ``datamodule``'s train samples."""
        h = self.hparams
        start = resolve(h['pretrained']) if h['pretrained'] else root
        autoencoder = load_autoencoder(Path(h['autoencoder'] or start / 'autoencoder'))
        return LatentDataModule(datamodule, autoencoder, dihedral=h['dihedral'])

    def finished(self, root: Path) -> bool:
        """Whether there is a generator; a filter alone is none."""
        return (root / self.output / 'specdm.json').is_file()

    @property
    def latents(self) -> LatentDataModule:
        """The trainer's datamodule.

        Raises:
            SpecDMError: It does not serve latents.
        """
        if not isinstance(self.data, LatentDataModule):
            raise SpecDMError('LatentDiffusionTask trains on latents: wrap the datamodule in LatentDataModule')
        return self.data

    def configure_model(self) -> None:
        """Build the denoiser for the autoencoder's latents.

        Raises:
            SpecDMError: The latents cannot be halved once for each level.
        """
        if hasattr(self, 'model'):
            return
        autoencoder, h = self.latents.autoencoder, self.hparams
        autoencoder.check_patch_size(self.spec)
        size = self.spec.patch_size // autoencoder.downsample
        self.model = JointDenoiser(
            autoencoder.channels,
            size,
            widths=self.sizes()['widths'] if h['widths'] == AUTO else h['widths'],
            depth=h['depth'],
            dropout=h['dropout'],
            adaptive_norm=h['adaptive_norm'],
            fold=h['fold'],
            clocks=len(self._channels()),
            num_classes=self.spec.num_classes if h['class_control'] else 0,
            orientations=h['orientations'],
        )
        if h['pretrained']:
            self._adopt(resolve(h['pretrained']))
        # Not torch's AveragedModel: a GPU would be waited for at each step to know how many were averaged
        self.average = deepcopy(self.model).requires_grad_(False)

    def on_fit_start(self) -> None:
        """Compile the denoiser; its average, which is evaluated now and then, stays as it is."""
        super().on_fit_start()
        if self.hparams['compile'] and self.device.type == 'cuda' and self.trainer.world_size == 1:
            # Batches are of one size (the last one of an epoch is dropped)
            self.model.compile(mode='reduce-overhead', dynamic=False)

    def _adopt(self, checkpoint: Path) -> None:
        described, denoiser = read_description(checkpoint), load_denoiser(checkpoint / 'denoiser')
        theirs, ours = denoiser.config, self.model.config
        different = self.spec.differences(described.spec)
        different += [f'{name}: {ours[name]} against {theirs[name]}' for name in ours if theirs[name] != ours[name]]
        if different:
            raise SpecDMError(
                f'what is to be trained and the pretrained {self.hparams["pretrained"]} differ: {"; ".join(different)}'
            )
        self.model.load_state_dict(denoiser.state_dict())
        self.started_from = described.training

    def clocks(self) -> Clocks:
        """How the time steps of the streams are drawn in training."""
        kind = LogitNormalClocks if self.hparams['logit_normal_times'] else Clocks
        return kind(self._channels(), self.hparams['together'], self.hparams['absent'])

    def _channels(self) -> tuple[int, ...]:
        """Latent channels of each stream that has a clock."""
        autoencoder = self.latents.autoencoder
        if self.hparams['together'] >= 1:
            return (autoencoder.channels,)
        return tuple(stream.channels for stream in autoencoder.streams)

    @torch.no_grad()
    def _follow(self, count: int) -> None:
        """Move the average of ``count`` updates towards the weights."""
        # The average of a short history must not remember the initial weights
        decay = min(self.hparams['ema_decay'], (1 + count) / (10 + count)) if count else 0.0
        # All weights in one call: one by one, a GPU waits for each of some hundred
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)

    def configure_optimizers(self) -> Any:
        """AdamW on the denoiser."""
        h = self.hparams
        return self.optimizers_for(self.model, h['lr'], h['warmup_steps'], h['final_lr'], weight_decay=0.0)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Equation 4."""
        shares = batch['shares']
        # In a quarter of the samples no share is known, in the others each of them in two thirds
        known = torch.rand(len(shares), 1, device=shares.device) < 0.75
        known = known & (torch.rand(shares.shape, device=shares.device) < 2 / 3)
        told = {
            'shares': shares.masked_fill(~known, torch.nan),
            'orientation': batch['orientation'],
        }
        h = self.hparams
        with self.half_on_cuda():
            loss = denoising_loss(
                lambda z, t: self.model(z, t, **told),
                batch['latents'],
                self.schedule,
                _DISTANCES[h['distance']],
                clocks=self.clocks(),
                min_snr_gamma=h['min_snr_gamma'],
            )
        self.log('train_loss', loss, prog_bar=True)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the weights and their average together, so that a state never holds one without the other."""
        count = self.global_step
        super().optimizer_step(*args, **kwargs)
        self._follow(count)

    @in_float32
    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Equation 4 with the averaged weights and the same noise at every validation."""
        data = self.latents
        z = data.autoencoder.encode(batch['image'], batch['mask']).mean
        z = (z - data.latent_mean.view(1, -1, 1, 1).to(z)) / data.latent_std.view(1, -1, 1, 1).to(z)
        generator, distance = torch.Generator().manual_seed(batch_idx), _DISTANCES[self.hparams['distance']]
        # At all time steps alike, so that trainings can be compared
        loss = denoising_loss(self.average, z, self.schedule, distance, generator, clocks=Clocks(self._channels()))
        self.log('val_loss', loss, prog_bar=True, batch_size=len(z), sync_dist=True)
        if batch_idx == 0:
            count = min(4, len(z))
            self.log_pairs(batch, lambda: self.pipeline().sample(range(count)), 'sampled')

    def pipeline(self) -> SpecDMPipeline:
        """The generator as it is now, with averaged weights."""
        data = self.latents
        return SpecDMPipeline(
            data.spec,
            data.autoencoder,
            self.average,
            data.latent_mean,
            data.latent_std,
            self.schedule,
            **self._known_shares(),
            absent=self.hparams['together'] < 1 and self.hparams['absent'] > 0,
            training={
                'steps': self.global_step,
                'batch_size': data.real.batch_size * self.trainer.world_size,
                'train_samples': len(data.latents) if data.latents is not None else 0,
                **({'pretrained': self.started_from} if self.started_from else {}),
            },
        )

    def _known_shares(self) -> dict[str, Any]:
        """Class shares of the train samples, of a denoiser that was told any."""
        if not self.hparams['class_control']:
            return {}
        shares = self.latents.class_shares
        return {'shares': share_quantiles(shares), 'share_rows': share_rows(shares)}

    def _write_output(self) -> None:
        self.write_once(
            lambda: self.pipeline().save_pretrained(self.root / self.output, self.hparams['half_precision'])
        )
