"""Every error that onceforall raises on purpose, on one page.

All derive from `OnceForAllError`. Its message is for the person at the command line: what is wrong, why, what to do.
The command line prints the message on one line and exits with `exit_code`. A `Note` is also printed on one line, but the work
continues.
"""


class OnceForAllError(Exception):
    """An error that the user can fix."""

    exit_code = 1


class Note(UserWarning):
    """A warning that something was done differently than usual, or skipped; the work continues."""


class SpaceError(OnceForAllError, ValueError):
    """Arguments that do not describe a search space."""


class ModelError(OnceForAllError, ValueError):
    """A user's model that cannot be made elastic, or weights that do not belong to it."""


class ArchError(OnceForAllError, ValueError):
    """An architecture that is malformed or lies outside the space."""


class StatisticsError(OnceForAllError, RuntimeError):
    """BatchNorm statistics were never measured for these weights, so an evaluation would be meaningless."""


class DataError(OnceForAllError, ValueError):
    """Images that are missing, unreadable, or too few."""


class TaskError(DataError):
    """Labels that do not fit this task but would fit another one."""


class FileError(OnceForAllError, OSError):
    """A file or folder that cannot be read or written, or does not hold what it should."""


class CheckpointError(FileError):
    """Weights that are damaged or do not fit the network."""


class TrainingError(OnceForAllError, RuntimeError):
    """Training cannot start or continue."""


class StoppedError(TrainingError):
    """Training stopped on request, after a checkpoint."""

    exit_code = 130


class DeviceError(OnceForAllError, RuntimeError):
    """A device or runtime that is unknown, unusable or too noisy to measure."""


class InfeasibleError(OnceForAllError, ValueError):
    """No network of the space meets the limits."""


class HubError(OnceForAllError, RuntimeError):
    """The Hugging Face Hub rejects a request or cannot be reached."""


class VerificationError(OnceForAllError, RuntimeError):
    """An exported file does not compute what the network computes."""


class ServerError(OnceForAllError, OSError):
    """The explorer's web server cannot listen on its address."""


class ValueTextError(OnceForAllError, ValueError):
    """A value on the command line that cannot be read."""

    exit_code = 2


class MissingExtraError(OnceForAllError, ImportError):
    """An optional package is not installed.

    Args:
        package: import name of the missing package.
        extra: the extra of onceforall that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package '{package}', which is not installed: pip install 'onceforall[{extra}]'")
