"""The commands of ``specdm``, a module for each or for a few that belong together.

A module has ``add_parser(commands)``, which adds its subcommands to those of ``specdm`` and says by
``set_defaults(run=...)`` what is called with the parsed arguments. To add one, write a module and enter it into
``COMMANDS`` of ``cli.py``.

A module imports libraries when its command runs, so that ``--help`` loads none. A command that hands options on, to
Lightning for one, says by ``set_defaults(unknown='--data.')`` what they begin with, and finds them in ``args.rest``.
"""
