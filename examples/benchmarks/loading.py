r"""How fast synthetic samples are generated and read: ratios on one machine, medians of five, as a table.

    python examples/benchmarks/loading.py --out runs/loading
    python examples/benchmarks/loading.py --out runs/loading --parts warm-0 warm-2    # some of its parts

Rows of sampling use the smallest checkpoint that ships, epochs a change detector on 64 px patches. All run on a CPU; a
figure of one core does so on a machine with more. Nothing else should run beside it.

Each part keeps its times in OUT/<part>.json: a part that was interrupted goes on, and one whose file is deleted is
measured again. The rows of all parts that are complete stand in OUT/rows.json. The part joint-pixels needs
denoising-diffusion-pytorch, which nothing else does.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from loading_rows import epochs, joint_pixels, precision, profile, sampling
from loading_rows.measured import FAST, Row, Size, Times, keep_rows

Rows = Callable[[str, Times, Size, Path], list[Row]]
SAMPLING: dict[str, Rows] = {
    'diffusers': sampling.over_diffusers,
    'single': sampling.over_single_samples,
    'joint-pixels': joint_pixels.over_joint_pixels,
    'profile': profile.profile,
    'precision': precision.half_precision,
    'blocks': sampling.four_times_the_blocks,
    'first-access': sampling.first_access,
}
EPOCHS: dict[str, Rows] = {
    **{f'warm-{workers}': partial(epochs.warm, workers) for workers in (0, 2, 4)},
    'cold': epochs.cold,
}
PARTS = SAMPLING | EPOCHS


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--checkpoint', default='indian-pines', help='generator of the rows of sampling')
    parser.add_argument('--change-checkpoint', default='oscd-change', help='generator of the rows of epochs')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
    parser.add_argument('--out', type=Path, default=Path('runs/loading'))
    parser.add_argument(
        '--fast', action='store_true', help='show that it runs, in OUT/fast, in a minute; the figures mean nothing'
    )
    args = parser.parse_args(arguments)
    if 'joint-pixels' in args.parts and not joint_pixels.is_installed():
        parser.error(
            'the part joint-pixels compares with denoising-diffusion-pytorch, which is not installed: pip install '
            f'denoising-diffusion-pytorch, or --parts {" ".join(part for part in PARTS if part != "joint-pixels")}'
        )
    # Apart, as times of the one must not count in the other
    size, out = (FAST, args.out / 'fast') if args.fast else (Size(), args.out)
    print('| figure | value | bar | | medians |')
    print('|---' * 5 + '|')
    for part in args.parts:
        checkpoint = args.checkpoint if part in SAMPLING else args.change_checkpoint
        # Caches are new in each run
        with tempfile.TemporaryDirectory() as folder:
            rows = PARTS[part](checkpoint, Times(out / f'{part}.json', size.repeats), size, Path(folder))
        keep_rows(out / 'rows.json', part, rows)
        for row in rows:
            print(row.line(), flush=True)


if __name__ == '__main__':
    main()
