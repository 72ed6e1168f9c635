"""Stage 1: the two-stream autoencoder (sections 3.1 and 3.4 of the paper)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torchmetrics import MeanMetric, MeanSquaredError
from torchmetrics.classification import MulticlassJaccardIndex

from torchgeo_specdm.checkpoint import read_json
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional import spectral_angle
from torchgeo_specdm.models import TwoStreamAutoencoder, build_autoencoder
from torchgeo_specdm.parts import load_autoencoder
from torchgeo_specdm.sizes import AUTO
from torchgeo_specdm.spec import DatasetSpec, class_index, one_hot
from torchgeo_specdm.tasks.generator import EncodingTask, in_float32


class AutoencoderTask(EncodingTask):
    """Trains an autoencoder of pairs and writes it to ``<root>/autoencoder``.

    Validation logs ``val_rmse`` [the dataset's unit], ``val_sad`` [rad], ``val_cross_entropy`` [nat], ``val_miou``
    and a picture of real and reconstructed pairs.

    Args:
        kind: ``two_stream`` or ``single_stream``, the paper's baseline with one branch as large as the two together.
        architecture: ``space_to_depth`` (fast) or ``kl`` (the paper's).
        downsample: f [px].
        latent_channels: z of the image and of the mask stream; ``auto`` for :mod:`torchgeo_specdm.sizes`.
        width: Width of the image and of the mask branch; likewise.
        depth: Residual blocks of a branch.
        separate_dates: Two streams for the two dates of change detection, with one encoder; two streams only.
        mask_sees_image: The decoder of the mask sees the image's latents, so that masks follow images; two streams
            only.
        image_branch: Folder of an autoencoder of the same sensor, whose image branch and scaling are taken over as they
            are, so that only masks are left to learn; two streams only.
        scaling: ``standardize`` each band by its train statistics, or map the spec's ``value_range`` to -1 ... 1.
        sad_weight: Weight of the spectral angle in the image's loss (lambda in equation 1).
        kl_weight: Weight of the KL divergence of both streams.
        mask_kl_weight: Another one of the mask's stream. The larger it is, the fewer bits a mask is written in, and the
            less an error of the denoiser in them does.
        halved_weight: Weight of the loss at half the resolution, see :meth:`PairAutoencoder.losses`; 0 leaves it out.
        lr: Peak learning rate.
        warmup_steps: Steps of linear warm-up.
        final_lr: Learning rate at the end, as a share of the peak; 1 keeps it constant.
    """

    def __init__(
        self,
        kind: Literal['two_stream', 'single_stream'] = 'two_stream',
        architecture: Literal['space_to_depth', 'kl'] = 'space_to_depth',
        downsample: int = 4,
        latent_channels: Sequence[int] | Literal['auto'] = (6, 3),
        width: Sequence[int] | Literal['auto'] = (128, 64),
        depth: int = 2,
        separate_dates: bool = False,
        mask_sees_image: bool = False,
        image_branch: str | None = None,
        scaling: Literal['standardize', 'range'] = 'standardize',
        sad_weight: float = 0.1,
        kl_weight: float = 1e-6,
        mask_kl_weight: float | None = None,
        halved_weight: float = 0.0,
        lr: float = 1e-3,
        warmup_steps: int = 100,
        final_lr: float = 0.01,
    ) -> None:
        super().__init__()
        for name, value in {
            'separate_dates': separate_dates,
            'mask_sees_image': mask_sees_image,
            'image_branch': image_branch,
        }.items():
            if value and kind != 'two_stream':
                raise SpecDMError(f'{name} needs kind: two_stream, not {kind}')
        self.save_hyperparameters()

    def configure_model(self) -> None:
        """Build the network for the datamodule's spec.

        Raises:
            SpecDMError: The patch size is not divisible by ``downsample``, or not twice where it must be halved.
        """
        if hasattr(self, 'model'):
            return
        spec, h = self.spec, self.hparams
        names = ['kind', 'architecture', 'downsample', 'latent_channels', 'width', 'depth']
        two_streams = ['separate_dates', 'mask_sees_image']
        sizes = self.sizes()
        config = {name: sizes.get(name) if h[name] == AUTO else h[name] for name in names}
        config |= {name: True for name in two_streams if h[name]}
        data = {'task': spec.task, 'num_bands': spec.num_bands, 'num_classes': spec.num_classes}
        self.model = build_autoencoder(config | data | {'ignore_index': spec.ignore_index})
        self.model.check_patch_size(spec)
        if h['halved_weight'] and spec.patch_size % (2 * h['downsample']):
            raise SpecDMError(
                f'patch_size {spec.patch_size} px gives latents of odd size, which halved_weight cannot halve: '
                f'choose a multiple of {2 * h["downsample"]}'
            )
        if h['image_branch']:
            self._adopt(Path(h['image_branch']))
        elif h['scaling'] == 'range':
            low, high = spec.value_range
            self.model.set_scaling(torch.tensor((low + high) / 2), torch.tensor((high - low) / 2))
        else:
            self.model.set_scaling(*self.data.band_statistics())
        self.rmse = MeanSquaredError(squared=False)
        self.sad = MeanMetric()
        self.cross_entropy = MeanMetric()
        # The value -1 marks pixels without a label whatever the dataset's own ignore index is
        self.miou = MulticlassJaccardIndex(spec.num_classes, ignore_index=-1)

    def _adopt(self, folder: Path) -> None:
        found = DatasetSpec.from_dict(read_json(folder / 'spec.json'))
        for name in ('bands', 'unit', 'scale'):
            theirs, ours = getattr(found, name), getattr(self.spec, name)
            if theirs != ours:
                raise SpecDMError(f'image_branch {folder} was trained on {name} {theirs}, the data has {ours}')
        cast(TwoStreamAutoencoder, self.model).adopt_image_branch(load_autoencoder(folder))

    def configure_optimizers(self) -> Any:
        """AdamW on all branches."""
        h = self.hparams
        return self.optimizers_for(self.model, h['lr'], h['warmup_steps'], h['final_lr'], weight_decay=0.0)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Equation 2."""
        h = self.hparams
        with self.half_on_cuda():
            losses = self.model.losses(batch['image'], batch['mask'], halved=h['halved_weight'] > 0)
        loss: Tensor = (
            losses['l1']
            + h['sad_weight'] * losses['spectral_angle']
            + losses['cross_entropy']
            + h['kl_weight'] * losses['kl']
            + (h['kl_weight'] if h['mask_kl_weight'] is None else h['mask_kl_weight']) * losses['mask_kl']
            + h['halved_weight'] * losses.get('halved', 0)
        )
        self.log_dict({f'train_{name}': value for name, value in losses.items()})
        self.log('train_loss', loss, prog_bar=True)
        return loss

    @in_float32
    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Reconstruction of the posterior's mean."""
        image, mask = batch['image'], batch['mask']
        made, logits = self.model.decode(self.model.encode(image, mask).mean)
        # A convolutional decoder may answer in channels-last order, of which torchmetrics cannot take a view
        self.rmse.update(made.contiguous(), image)
        self.sad.update(spectral_angle(made, image, dim=image.ndim - 3))
        y = one_hot(mask, self.spec.num_classes, self.spec.ignore_index)
        labelled = y.sum(1) > 0
        self.cross_entropy.update(-(y * logits.log_softmax(1)).sum(1)[labelled])
        self.miou.update(logits.argmax(1), y.argmax(1).masked_fill(~labelled, -1))
        scores = {'rmse': self.rmse, 'sad': self.sad, 'cross_entropy': self.cross_entropy, 'miou': self.miou}
        self.log_dict({f'val_{name}': metric for name, metric in scores.items()}, batch_size=len(image))
        distance = (self.model.normalize(made) - self.model.normalize(image)).abs().mean()
        self.log('val_loss', distance, batch_size=len(image), sync_dist=True)
        if batch_idx == 0:
            self.log_pairs(batch, lambda: {'image': made, 'mask': class_index(logits, self.spec.task)}, 'reconstructed')
