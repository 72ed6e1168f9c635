"""The train samples of any datamodule as joint latents, encoded once: what the denoiser is trained on."""

from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from torchgeo_specdm.datamodules.generator import GeneratorDataModule
from torchgeo_specdm.functional import dihedral
from torchgeo_specdm.functional.dihedral import ORIENTATIONS
from torchgeo_specdm.models import PairAutoencoder
from torchgeo_specdm.spec import DatasetSpec, one_hot


class LatentDataModule(GeneratorDataModule):
    """The train samples as normalised joint latents, encoded once; val samples stay raw.

    The mean of the posterior is kept, not a draw: a diffusion model adds noise of its own.

    Args:
        real: As for :class:`GeneratorDataModule`.
        autoencoder: Encodes the samples.
        spec: As for :class:`GeneratorDataModule`.
        dihedral: Encode all eight orientations of each sample.
    """

    def __init__(
        self,
        real: LightningDataModule,
        autoencoder: PairAutoencoder,
        spec: DatasetSpec | None = None,
        dihedral: bool = True,
    ) -> None:
        super().__init__(real, spec, dihedral)
        self.autoencoder = autoencoder
        self.latents: Latents | None = None
        self.latent_mean = torch.zeros(0)
        self.latent_std = torch.zeros(0)
        self._placed = False

    @property
    def class_shares(self) -> Tensor:
        """Share of labelled pixels of each class in each train sample, ``(N, K)``; known after ``setup``."""
        assert self.latents is not None
        return self.latents.shares.cpu()

    def setup(self, stage: str) -> None:
        """Encode the train split.

        Raises:
            SpecDMError: As for the base class, or the patches do not fit the autoencoder.
        """
        super().setup(stage)
        if self.latents is None:
            self.autoencoder.check_patch_size(self.spec)
            z, shares = self._encode()
            self.latent_mean = z.mean((0, 1, 3, 4))
            self.latent_std = z.std((0, 1, 3, 4)).clamp_min(1e-6)
            # In place, as all latents of a dataset may be most of what is in memory
            z.sub_(self.latent_mean.view(-1, 1, 1)).div_(self.latent_std.view(-1, 1, 1))
            # Half precision rounds normalised latents by 5e-4, far below the smallest noise level
            self.latents = Latents(z.half(), shares, ORIENTATIONS if self.dihedral else 1)
            rank_zero_info(f'Encoded {len(self.latents)} joint latents of shape {tuple(z.shape[2:])}')

    @torch.no_grad()
    def _encode(self) -> tuple[Tensor, Tensor]:
        """Latents ``(N, O, Z, h, w)`` and shares ``(N, K)`` of the train samples, batch by batch into place."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device('cpu')
        autoencoder, spec, dataset = self.autoencoder.to(device).eval(), self.spec, self.split('train')
        # Where latents are pixels they can be turned themselves, which saves an eightfold memory
        orientations = ORIENTATIONS if self.dihedral and autoencoder.downsample > 1 else 1
        size, count = spec.patch_size // autoencoder.downsample, len(dataset)  # type: ignore[arg-type]
        z = torch.empty(count, orientations, autoencoder.channels, size, size)
        shares = torch.empty(count, spec.num_classes)
        done = 0
        for batch in tqdm(self._in_order(dataset), desc='encoding', leave=False):
            image, mask = batch['image'].to(device), batch['mask'].to(device)
            place = slice(done, done := done + len(image))
            for orientation in range(orientations):
                turned = dihedral(image, orientation), dihedral(mask, orientation)
                z[place, orientation] = autoencoder.encode(*turned).mean.cpu()
            counts = one_hot(batch['mask'], spec.num_classes, spec.ignore_index).sum((2, 3))
            shares[place] = counts / counts.sum(1, keepdim=True).clamp_min(1)
        return z, shares

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches ``index`` ``(B,)``, which become what :class:`Latents` holds where the training is."""
        assert self.latents is not None
        return self._shuffled(cast('Dataset[int]', range(len(self.latents))), collate_fn=_indices)

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Gather a batch of latents; on a GPU whose memory has room for all of them, they stay there."""
        if 'index' not in batch:
            return super().on_after_batch_transfer(batch, dataloader_idx)
        assert self.latents is not None
        index = batch['index']
        if not self._placed:
            self._placed = True
            if index.device.type == 'cuda' and _fits(self.latents.z, index.device):
                self.latents = self.latents.to(index.device)
        return {name: values.to(index.device) for name, values in self.latents.batch(index).items()}


class Latents:
    """Encoded samples in all their orientations.

    Args:
        z: ``(N, O, Z, h, w)``; with O = 1, other orientations are made by turning the latents.
        shares: ``(N, K)``, share of labelled pixels of each class.
        orientations: How many orientations of each sample there are.
    """

    def __init__(self, z: Tensor, shares: Tensor, orientations: int) -> None:
        self.z = z
        self.shares = shares
        self.orientations = orientations

    def __len__(self) -> int:
        """Samples times orientations."""
        return len(self.z) * self.orientations

    def to(self, device: torch.device) -> 'Latents':
        """The same on a device."""
        return Latents(self.z.to(device), self.shares.to(device), self.orientations)

    def batch(self, index: Tensor) -> dict[str, Tensor]:
        """Gather samples, all at once: a GPU would wait for hundreds that are read one by one.

        Args:
            index: ``(B,)`` of sample times orientations.

        Returns:
            ``latents`` ``(B, Z, h, w)`` float32, ``shares`` ``(B, K)`` and ``orientation`` ``(B,)``, 0-7.
        """
        index = index.to(self.z.device)
        sample, orientation = index // self.orientations, index % self.orientations
        if self.z.shape[1] > 1:
            z = self.z[sample, orientation]
        else:
            turns = zip(self.z[sample, 0], orientation.tolist(), strict=True)
            z = torch.stack([dihedral(one, turn) for one, turn in turns])
        return {'latents': z.float(), 'shares': self.shares[sample], 'orientation': orientation}


def _indices(indices: list[int]) -> dict[str, Tensor]:
    return {'index': torch.tensor(indices)}


def _fits(z: Tensor, device: torch.device) -> bool:
    """Whether most of the memory that is free stays free."""
    return z.nbytes < torch.cuda.mem_get_info(device)[0] / 4
