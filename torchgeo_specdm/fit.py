"""``specdm fit|validate|test``: Lightning's command line, run once for each stage of a configuration.

A stage of a generator that is finished is skipped, one that was interrupted is resumed.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException

from torchgeo_specdm import __version__, compat, datamodules, downstream, tasks
from torchgeo_specdm.disk import alone, disk_errors
from torchgeo_specdm.diverging import LossGuard, last_checkpoint
from torchgeo_specdm.errors import USER_FILES, DivergedError, SpecDMError, refusal
from torchgeo_specdm.finished import check_settings, is_finished, record_data, require_recorded
from torchgeo_specdm.lazy import load_all
from torchgeo_specdm.resume import ResumeCheckpoint
from torchgeo_specdm.stages import plan, select, to_the_point
from torchgeo_specdm.tasks.generator import GeneratorTask

_DESCRIPTION = (
    'Options are those of LightningCLI: --model, --data and --trainer name any class of TorchGeo or this package '
    'and its arguments; they apply to every stage. Of a configuration with stages, "--stage N" or "--stage NAME" '
    'runs one alone; without it, fit runs all and the others the last. "fit --restart" discards what a stage has '
    'trained so far; without it, finished stages are skipped and interrupted ones are resumed.'
)


class SpecDMCLI(LightningCLI):
    """Lightning's command line for any model and datamodule, which knows how a generator is trained.

    Args:
        arguments: The subcommand and its options.
        restart: Discard what a stage of a generator has trained so far.
    """

    def __init__(self, arguments: Sequence[str], restart: bool = False) -> None:
        self.restart = restart
        self.resume: ResumeCheckpoint | None = None
        self.command = arguments[0]
        super().__init__(
            model_class=LightningModule,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_kwargs={'overwrite': True},
            parser_kwargs={
                'prog': 'specdm',
                'version': __version__,
                'exit_on_error': False,
                self.command: {'description': _DESCRIPTION, 'exit_on_error': False},
            },
            args=list(arguments),
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The subcommand and the arguments of the trainer's method that are no options.

        It is the only one: to make the parsers of the others takes half a second of each stage.
        """
        loaders = {'train_dataloaders', 'val_dataloaders'} if self.command == 'fit' else {'dataloaders'}
        return {self.command: {'model', 'datamodule', *loaders}}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the given arguments, never those of the process."""
        assert isinstance(args, list)
        self.config = parser.parse_args(args)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add a :class:`ResumeCheckpoint` to the trainer of a generator, unless the user configured checkpoints.

        That of any other model gets a :class:`LossGuard`; a generator looks at its losses itself.

        Raises:
            SpecDMError: There are no settings of the trainer, or none that Lightning takes.
        """
        given = self.config_init[self.subcommand].trainer
        if not isinstance(given, Namespace):
            raise SpecDMError(
                'trainer: must hold settings by name, such as max_steps: give it one, or leave out the line'
            )
        callbacks = given.callbacks if isinstance(given.callbacks, list) else [given.callbacks] * bool(given.callbacks)
        configured = given.enable_checkpointing is False or any(isinstance(c, ModelCheckpoint) for c in callbacks)
        if isinstance(self.model, GeneratorTask) and not configured:
            root = Path(given.default_root_dir or '.')
            self.resume = ResumeCheckpoint(root / type(self.model).__name__ / 'last.ckpt')
            kwargs['callbacks'] = [*callbacks, self.resume]
        elif not isinstance(self.model, GeneratorTask):
            kwargs['callbacks'] = [*callbacks, LossGuard()]
        try:
            return super().instantiate_trainer(**kwargs)
        except (TypeError, ValueError) as error:
            # As for null where a number is due
            raise SpecDMError(f'Lightning refuses a setting of trainer: {error}') from error

    def fit(self, model: LightningModule, datamodule: Any = None, ckpt_path: Any = None, **kwargs: Any) -> None:
        """Train, or resume, unless the stage is finished.

        Raises:
            SpecDMError: Another training is at work in the same folder, the disk is full, or what the stage refuses.
        """
        last = self.resume.path if self.resume else None
        if isinstance(model, GeneratorTask) and not (self.restart and last) and is_finished(model, self._root, last):
            require_recorded(self._record, self._data, self._root / model.output)
            # Whoever tried a few steps first must not take the old output for a new one
            steps = f' after {check_settings(model, last)} steps' if last and last.is_file() else ''
            self._say(
                f'{self._root / model.output} is finished{steps} and stays as it is, whatever else the configuration '
                'says now; --restart trains it again'
            )
            return
        remedy = 'the same command resumes, or name another folder with --trainer.default_root_dir'
        with disk_errors(self._root, remedy), self._alone():
            self._train(model, datamodule, ckpt_path, last, **kwargs)

    def _train(self, model: LightningModule, datamodule: Any, ckpt_path: Any, last: Path | None, **kwargs: Any) -> None:
        if isinstance(model, GeneratorTask):
            if self.restart and last:
                last.unlink(missing_ok=True)
            elif not ckpt_path and last and last.is_file():
                check_settings(model, last)
                self._say(f'resuming from {last}')
                ckpt_path, kwargs = last, kwargs | dict.fromkeys(kwargs.keys() & {'weights_only'}, True)
            datamodule = model.wrap_datamodule(datamodule, self._root)
        try:
            self.trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path, **kwargs)
        except DivergedError as error:
            good = last if last and last.is_file() else last_checkpoint(self.trainer)
            kept = f'{good} holds the last good weights' if good else 'no checkpoint was written before'
            raise DivergedError(f'{error}; {kept}') from error
        except (SpecDMError, *USER_FILES):
            self._forget_log()
            raise
        except SystemExit as error:
            # How Lightning ends after Ctrl-C
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt(*['the same command resumes'] * bool(last)) from error
            # Lightning ends with 0 when a scheduler stops it, as if the work were done
            raise SystemExit(143) if isinstance(error, SIGTERMException) else error from error
        if isinstance(model, GeneratorTask) and model.finished(self._root) and self.trainer.is_global_zero:
            record_data(self._record, self._data)

    def validate(self, model: LightningModule, datamodule: Any = None, ckpt_path: Any = None, **kwargs: Any) -> None:
        """Evaluate; a generator as it was last saved.

        Raises:
            SpecDMError: The generator has not been trained.
        """
        if isinstance(model, GeneratorTask):
            ckpt_path = ckpt_path or self._root / type(model).__name__ / 'last.ckpt'
            if not Path(ckpt_path).is_file():
                raise SpecDMError(f'there is no {ckpt_path} to validate: run "specdm fit" first')
            datamodule = model.wrap_datamodule(datamodule, self._root)
        self.trainer.validate(model, datamodule=datamodule, ckpt_path=ckpt_path, **kwargs)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other trainings out of the folder, unless it is on another kind of storage, which has no locks.

        Trainings of other models that name no folder share the current one, where each has a log folder of its own.
        """
        named = self.config[self.subcommand].trainer.default_root_dir or isinstance(self.model, GeneratorTask)
        if not named or '://' in self.trainer.default_root_dir or not self.trainer.is_global_zero:
            yield
            return
        with alone(self._root, 'training', 'name another folder with --trainer.default_root_dir'):
            yield

    def _forget_log(self) -> None:
        """Remove the log folder of a run that was refused before its first step: it holds no metric."""
        if self.trainer.logger is None or not self.trainer.is_global_zero or self.trainer.global_step:
            return
        folder = Path(self.trainer.log_dir or self._root)
        for pattern in ('config.yaml', 'hparams.yaml', 'events.out.tfevents.*'):
            for path in folder.glob(pattern):
                path.unlink()
        for made in (folder, folder.parent):
            if made.is_dir() and not any(made.iterdir()):
                made.rmdir()

    @property
    def _data(self) -> Namespace:
        """What the configuration says of the data, with all defaults."""
        data: Namespace = self.config[self.subcommand].data
        return data

    @property
    def _record(self) -> Path:
        """Where a finished stage of a generator keeps what it was trained on."""
        return self._root / type(self.model).__name__ / 'data.json'

    @property
    def _root(self) -> Path:
        return Path(self.trainer.default_root_dir)

    def _say(self, text: str) -> None:
        if self.trainer.is_global_zero:
            print(f'specdm: {text}')


def run_stages(
    command: str, configs: Sequence[str], overrides: Sequence[str], *, stage: str | None = None, restart: bool = False
) -> None:
    """Run ``fit``, ``validate`` or ``test``.

    Args:
        command: One of the three.
        configs: Configuration files.
        overrides: Options of Lightning's command line, which apply to every stage.
        stage: Number or name of the only stage to run.
        restart: Discard what the stages of a generator have trained so far.

    Raises:
        SpecDMError: A configuration is wrong, or the trainer cannot run it.
    """
    compat.register_torchgeo()
    for package in (datamodules, downstream, tasks):
        load_all(package)
    stages = plan(configs, overrides)
    if stage is not None:
        stages = [select(stages, stage)]
    elif command != 'fit':
        stages = stages[-1:]
    for number, each in enumerate(stages, 1):
        if len(stages) > 1:
            print(f'specdm: stage {number} of {len(stages)}: {each.name}', flush=True)
        try:
            SpecDMCLI([command, *each.arguments], restart)
        except SpecDMError:
            raise
        except (argparse.ArgumentError, MisconfigurationException) as error:
            raise SpecDMError(to_the_point(str(error))) from error
        except ValueError as error:
            # jsonargparse wraps what a class refuses in __init__ in a list of all types that it tried
            if refused := refusal(error):
                raise SpecDMError(str(refused)) from error
            raise
