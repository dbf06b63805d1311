"""The errors of a bad world: missing inputs, broken files, settings that contradict each other.

Bad arguments are ``ValueError`` or ``TypeError``. A message here says what was expected, what
came, which file or record it was, and what to do.
"""

__all__ = [
    "ArtifactError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DeviceError",
    "HarnessError",
    "MissingInput",
]


class HarnessError(Exception):
    """Something outside the code is not as it must be."""


class MissingInput(HarnessError):  # noqa: N818 - the name stands in reports, beside NOT_RUN
    """Something that the gate needs is not there, so a criterion cannot be evaluated.

    Parameters
    ----------
    what : str
        What is missing, and where it was looked for.
    remedy : str
        How to supply it: the command or the setting.
    """

    def __init__(self, what: str, *, remedy: str) -> None:
        super().__init__(f"{what}. {remedy}")
        self.what = what
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, which would call the constructor without the remedy."""
        return _missing_input, (self.what, self.remedy)


class ConfigError(HarnessError):
    """A configuration that cannot be used."""


class DataError(HarnessError):
    """Sequences, labels or tables that cannot be used."""


class NotFiniteError(DataError):
    """Vectors that hold NaN or infinity, of which nothing can be made, with what to do about it.

    Parameters
    ----------
    what : str
        Which vectors, and of how many.
    """

    remedy = (
        "Embed in bfloat16 or float32 (`dtype` in gate.toml): float16 overflows beyond 65,504. "
        "Where it was not float16, the weights hold such values: download them again"
    )

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}. {self.remedy}")
        self.what = what

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, which would add the remedy a second time."""
        return NotFiniteError, (self.what,)


class DeviceError(HarnessError):
    """A device that cannot do what is asked of it."""


class ArtifactError(HarnessError):
    """A stored artifact that is damaged, or does not match what it claims to be."""


class CheckpointError(HarnessError):
    """Model weights that cannot be used."""


def _missing_input(what: str, remedy: str) -> MissingInput:
    return MissingInput(what, remedy=remedy)
