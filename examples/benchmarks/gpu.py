r"""All that needs a GPU, in order of priority, in slices of a few minutes; see examples/README.md.

    python examples/benchmarks/gpu.py run --pack data/oscd-pack --work runs --out out --minutes 9.5
    python examples/benchmarks/gpu.py join --shards out --work results       # elsewhere: put together what came back
    python examples/benchmarks/gpu.py report --work results

``run`` goes through the plan (``list`` prints it). A job that is finished is skipped, one that was stopped or killed
goes on where it was. It stops by itself before --minutes are over and leaves in --out what was finished since, as files
of at most 15 MiB and of 62 MiB in all; the next call brings the rest. ``--scale 0.01`` rehearses the plan with a
hundredth of the time and of the samples. The data is a pack (pack.py); neither TorchGeo nor rasterio is needed.
"""

import argparse
import hashlib
import os
import platform
import time
from pathlib import Path
from typing import Any

os.environ.setdefault('TQDM_DISABLE', '1')

import torch
from gpu_slices.experiment import results
from gpu_slices.jobs import Bench
from gpu_slices.parts import join, send, send_again, store
from gpu_slices.plan import PLAN, Job, chosen, needed, scaled
from gpu_slices.report import report
from gpu_slices.train import Clock, SliceEndError

from torchgeo_specdm.checkpoint import read_json, write_json

_START = time.monotonic()
# Kept back for writing what is sent [s], and at most this share of the time
_WRITING, _WRITING_SHARE = 20.0, 0.05


def run(bench: Bench, jobs: tuple[Job, ...], out: Path) -> None:
    """Do what is not done, as long as there is time, and send what is finished."""
    bench.work.mkdir(parents=True, exist_ok=True)
    try:
        for job in jobs:
            path = bench.work / job.name / 'result.json'
            if path.is_file():
                continue
            if missing := [path for path in needed(job) if not (bench.work / path).exists()]:
                print(f'{job.name}: waits for {missing[0]}', flush=True)
                continue
            began = time.monotonic()
            print(f'{job.name}: {job.kind}', flush=True)
            result = bench.run(scaled(job, bench.scale))
            write_json(path, {**_about(job, bench), **result})
            print(f'{job.name}: done, {time.monotonic() - began:.0f} s in this call', flush=True)
    except SliceEndError:
        print('the time of this call is over; the same command goes on', flush=True)
    finally:
        _send(bench.work, jobs, out)


def _about(job: Job, bench: Bench) -> dict[str, Any]:
    on_gpu = bench.device.type == 'cuda'
    device = torch.cuda.get_device_name(bench.device) if on_gpu else platform.machine()
    about = {'job': job.name, 'kind': job.kind, 'config': job.config, 'seed': job.seed, 'scale': bench.scale}
    return about | {'device': f'{bench.device.type} ({device})', 'torch': torch.__version__}


def _send(work: Path, jobs: tuple[Job, ...], out: Path) -> None:
    """Put what is finished into the outbox, each file once unless it changes, and send what is there."""
    outbox, stored = work / 'outbox', _stored(work)
    found = _finished(work, jobs)
    store(work, [work / name for name, digest in found.items() if stored.get(name) != digest], outbox)
    _mark(work, found)
    left = send(outbox, out)
    print(f'{len(left)} files wait for the next call' if left else 'all that is finished is sent', flush=True)


def _finished(work: Path, jobs: tuple[Job, ...]) -> dict[str, str]:
    """SHA-256 of all files of these jobs that are finished; of an experiment, of those so far."""
    files = results(work) if any(job.kind == 'experiment' for job in jobs) else []
    for job in jobs:
        result = work / job.name / 'result.json'
        if result.is_file():
            files += [result, *(work / file for file in read_json(result)['files'])]
    return {path.relative_to(work).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _stored(work: Path) -> dict[str, str]:
    """SHA-256 of the files that were put into an archive."""
    path = work / 'stored.json'
    return dict(read_json(path)['files']) if path.is_file() else {}


def _mark(work: Path, files: dict[str, str]) -> None:
    write_json(work / 'stored.json', {'files': {**_stored(work), **files}})


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add('mode', choices=('run', 'list', 'join', 'report'))
    add('--pack', type=Path, default=Path('data/oscd-pack'), help='run: the data')
    add('--conf', type=Path, default=Path(__file__).parents[1] / 'conf', help='run: folder of the presets')
    add('--work', type=Path, default=Path('runs'), help='where results are')
    add('--out', type=Path, default=Path('out'), help='run: what is brought back')
    add('--minutes', type=float, default=9.5, help='run: time of this call')
    add('--scale', type=float, default=1.0, help='run: share of time, steps and samples')
    add('--only', nargs='+', default=[], metavar='JOB', help='run: these jobs alone')
    add('--steps', type=int, help='run: of the denoisers that ship, where not the clock is to say')
    add('--seeds', type=int, nargs='+', default=[], help='run: of experiments, in this order')
    add('--models', nargs='+', default=[], metavar='MODEL', help="run: of experiments; the paper's by default")
    add('--again', action='store_true', help='run: send what did not arrive again')
    add('--shards', type=Path, nargs='+', default=[Path('out')], help='join: folders of what came back')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None, start: float | None = None) -> None:
    args = parse(arguments)
    if args.mode == 'list':
        for job in PLAN:
            amounts = (
                (job.minutes, 'min'),
                (sum(job.lengths.values()), 'steps'),
                (job.count, 'samples'),
                (job.steps, 'steps a cell'),
            )
            budget = next((f'{amount:g} {unit}' for amount, unit in amounts if amount), '')
            print(f'{job.name:24} {job.kind:13} {budget}')
    elif args.mode == 'join':
        missing = join(args.shards, args.work)
        # So that a call that goes on from these results does not send them once more
        _mark(args.work, _finished(args.work, PLAN))
        print(f'missing: {", ".join(missing)}' if missing else f'all of it is in {args.work}')
    elif args.mode == 'report':
        print(report(args.work))
    else:
        seconds = 60 * args.minutes
        deadline = (_START if start is None else start) + seconds - min(_WRITING, _WRITING_SHARE * seconds)
        if args.again:
            send_again(args.work / 'outbox')
        asked = {'seeds': tuple(args.seeds), 'models': tuple(args.models)}
        bench = Bench(args.pack, args.work, args.conf, args.scale, Clock(deadline), **asked)
        run(bench, chosen(args.only, args.steps), args.out)


if __name__ == '__main__':
    main()
