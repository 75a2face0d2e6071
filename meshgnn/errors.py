"""Errors on the user's side; each is reported in one line."""

import re


class InputError(ValueError):
    """The user's input is wrong: which file, what is wrong, what to do. The command line turns it into exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


class SettingError(InputError):
    """A value in a config is wrong.

    The text names fields of the config that raises it as `<name>`. A config does not know where it sits; whoever does
    puts the path before these names (`under`), so that the user reads the key that has to be typed.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(re.sub(r"<([^<>]+)>", r"\1", text))

    def under(self, path: str) -> "SettingError":
        """The same error as the config that holds this one reports it: `<rounds>` becomes `<path.rounds>`."""
        return SettingError(re.sub(r"<([^<>]+)>", lambda name: f"<{path}.{name[1]}>", self.text)) if path else self


class LeakError(InputError):
    """A split lets the test part touch the training part (design rule: the run stops)."""
