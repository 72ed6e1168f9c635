"""What bfloat16 changes of samples, and how long it takes; arguments are those of the rows of sampling."""

from pathlib import Path

from torch.utils.data import default_collate

from loading_rows.measured import Row, Size, Times, one_thread
from loading_rows.sampling import BATCH, another_block, warm


@one_thread()
def half_precision(checkpoint: str, times: Times, size: Size, folder: Path) -> list[Row]:
    """Blocks of ``bf16-mixed`` beside those of ``32-true``: the same noise, two precisions of the denoiser."""
    full, half = (warm(checkpoint, precision=name) for name in ('32-true', 'bf16-mixed'))
    times.measure(full=another_block(full), half=another_block(half))
    exact, rounded = (default_collate(one.__getitems__(range(2 * BATCH))) for one in (full, half))
    equal = float((exact['mask'] == rounded['mask']).double().mean())
    # Of each band by itself: bands differ in their spread
    pixels = [one['image'].movedim(-3, 0).flatten(1) for one in (exact, rounded)]
    moved = float(((pixels[0] - pixels[1]).square().mean(1).sqrt() / pixels[0].std(1)).mean())
    ratio = times.median('half') / times.median('full')
    note = f'{times.median("half"):.3g} s against {times.median("full"):.3g} s for {BATCH} pairs, one core'
    return [
        Row('time of bf16-mixed over 32-true', ratio, note=note),
        Row('mask pixels that bf16-mixed leaves as they are', equal, note=f'{2 * BATCH} pairs, 20 steps'),
        Row('RMS change of its images [standard deviations of a band]', moved),
    ]
