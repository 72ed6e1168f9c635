r"""How fast synthetic samples are generated and read: ratios on one machine, medians of five, as a table.

    python examples/benchmarks/loading.py --out runs/loading

Rows of sampling use the smallest checkpoint that ships, epochs a change detector on 64 px patches. All run on a CPU; a
figure of one core does so on a machine with more. Times are kept in OUT/sampling.json and OUT/epochs.json: a run that
was interrupted goes on, and a file that is deleted is measured again. Nothing else should run beside it.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loading_rows import epochs, sampling
from loading_rows.measured import FAST, Size, Times

PARTS = {'sampling': sampling.rows, 'epochs': epochs.rows}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--checkpoint', default='indian-pines', help='generator of the rows of sampling')
    parser.add_argument('--change-checkpoint', default='oscd-change', help='generator of the rows of epochs')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
    parser.add_argument('--out', type=Path, default=Path('runs/loading'))
    parser.add_argument('--fast', action='store_true', help='show in seconds that it runs; the figures mean nothing')
    args = parser.parse_args(arguments)
    size = FAST if args.fast else Size()
    print('| figure | value | bar | | medians |')
    print('|---' * 5 + '|')
    for part in args.parts:
        times = Times(args.out / f'{part}.json', size.repeats)
        checkpoint = args.checkpoint if part == 'sampling' else args.change_checkpoint
        # Caches are new in each run
        with tempfile.TemporaryDirectory() as folder:
            for row in PARTS[part](checkpoint, times, size, Path(folder)):
                print(row.line(), flush=True)


if __name__ == '__main__':
    main()
