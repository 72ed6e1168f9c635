"""Generated samples as files, in one of the formats of :mod:`torchgeo_specdm.exporting`.

A file appears under its name when it is complete; what is there is not generated again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torchgeo_specdm.checkpoint import folder_hash
from torchgeo_specdm.datasets.conditions import GivenStreams
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.exporting import Grid, make_format
from torchgeo_specdm.exporting.writing import Writing, claimed
from torchgeo_specdm.hub import folder_name
from torchgeo_specdm.ranks import Ranks, launch


def export(
    checkpoint: str | Path,
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    steps: int = 20,
    solver: str | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    keep: str | Path | None = None,
    classes: Mapping[str, float] | str | None = None,
    guidance: float | None = None,
    given: Any = None,
    given_streams: Sequence[str] = ('mask',),
    agreement: float = 1.0,
    precision: str = '32-true',
    compile: bool = False,
    format: str = 'geotiff',
    crs: str | None = None,
    transform: Sequence[float] | None = None,
    shard_size: int | None = None,
    devices: int | None = None,
    num_nodes: int = 1,
) -> None:
    """Generate ``count`` samples of a checkpoint into ``folder``; what is already there is kept.

    Args:
        checkpoint: The generator: folder, name or address on the hub.
        folder: Where to write; created.
        count: Number of samples, from index 0.
        seed: As in :class:`~torchgeo_specdm.datasets.SpecDMSynthetic`, like all that follow.
        steps: Steps of the solver.
        solver: Name of the solver; the checkpoint's by default.
        batch_size: Samples generated at once.
        device: Where to generate.
        keep: ``aligned`` or the folder of a filter.
        classes: Shares of pixels by class name, ``balanced`` or ``train``.
        guidance: How strongly to pull towards them.
        given: Real samples, parts of which are kept.
        given_streams: Which parts.
        agreement: How strongly to pull images and masks towards those that go together.
        precision: ``32-true`` or ``bf16-mixed``.
        compile: Whether to compile the denoiser.
        format: A name in :data:`torchgeo_specdm.exporting.FORMATS`.
        crs: Coordinate system that the samples are said to lie in, as pyproj takes it; fictitious by default. See
            :class:`~torchgeo_specdm.exporting.grid.Grid`.
        transform: Affine transform of sample 0, six numbers as rasterio orders them.
        shard_size: Samples in a tar file of ``webdataset``; 100 by default.
        devices: Generate in so many processes at once, each with a GPU, or on a core of the CPU where ``device`` is
            ``cpu`` or there is no GPU. They change no bit of a file. The script needs ``if __name__ == '__main__':``.
        num_nodes: Machines that run this at once, with as many devices each and one ``folder``.

    Raises:
        SpecDMError: The checkpoint or the filter is bad, does not fit the format, the folder holds something else, or
            another export is at work there. With ``devices``, there are fewer of them, or one of the processes has
            ended.
    """
    dataset = SpecDMSynthetic(
        checkpoint,
        seed=seed,
        steps=steps,
        solver=solver,
        batch_size=batch_size,
        device=device,
        keep=keep,
        classes=classes,
        guidance=guidance,
        given=given,
        given_streams=given_streams,
        agreement=agreement,
        precision=precision,
        compile=compile,
        # The files are what is kept
        cache=None,
    )
    spec = dataset.spec
    layout = make_format(format, spec, Grid(crs, transform), shard_size)
    settings: dict[str, Any] = {
        'generator': folder_name(dataset.checkpoint),
        'sha256': folder_hash(dataset.checkpoint),
        'seed': seed,
        'steps': steps,
        'solver': solver,
        'spec': spec.to_dict(),
        'format': format,
        'shard_size': layout.unit_size,
        'grid': layout.grid.to_dict(),
        'filter': None,
        'classes': classes if classes is None or isinstance(classes, str) else dict(classes),
        'guidance': guidance,
        'agreement': agreement,
        'precision': precision,
        'compile': compile,
        'given': next((one.identity() for one in dataset.conditions if isinstance(one, GivenStreams)), None),
    }
    if dataset.filter is not None:
        # A block is filled as a whole: its size decides which candidates are served
        settings |= {'filter': folder_hash(dataset.filter), 'block_size': dataset.block_size}
    # Again under the lock of the folder; here, before processes are started
    claimed(folder, settings)
    work = Writing(dataset, layout, folder, count, settings)
    if devices is None:
        work(Ranks())
    else:
        launch(work, devices, num_nodes, device)
