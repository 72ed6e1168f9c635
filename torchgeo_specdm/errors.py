"""Every error a user can cause: one class to catch, one line that says what, where and what to do.

The command line prints these (and missing files) as one line and exits with status 2;
anything else is a bug and keeps its traceback.
"""

# Longest message [characters]: a value that a file gives, which a message quotes, has no end
_LONGEST = 1000

# What a path that a user names can raise
USER_FILES = (FileNotFoundError, NotADirectoryError, PermissionError)


class SpecDMError(ValueError):
    """Bad input: a configuration, a file or an argument that cannot work.

    Args:
        message: One line that says what, where and what to do. One that nobody would read to its end loses its middle.
    """

    def __init__(self, message: str) -> None:
        half = _LONGEST // 2
        super().__init__(message if len(message) <= _LONGEST else f'{message[:half]} [...] {message[-half:]}')


class CheckpointError(SpecDMError):
    """A checkpoint folder that is missing, damaged, of a newer format or unsafe."""


class RasterError(SpecDMError):
    """A raster that cannot be read or does not have the shape or codes it must have."""


class SpecMismatchError(SpecDMError):
    """Two datasets that cannot be mixed because their specs differ."""


class DivergedError(SpecDMError):
    """A training whose loss is no number any more."""


def refusal(error: BaseException) -> SpecDMError | None:
    """The first of this package's errors among those that led to ``error``."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, SpecDMError):
        seen = seen.__cause__ or seen.__context__
    return seen
