"""What can go wrong on the user's side, told in one line."""


class InputError(ValueError):
    """The user's input is wrong: which file, what is wrong, what to do. The command line turns it into exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


class LeakError(InputError):
    """A split lets the test part touch the training part (design rule: the run stops)."""
