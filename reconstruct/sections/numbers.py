"""Which number a section has, by the name of its file."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from meshgnn.errors import InputError, SettingError
from meshgnn.source.images import suffix_of

_DIGITS = re.compile(r"\d+")


def natural(name: str) -> list[tuple[int, int, str]]:
    """Key that sorts names as people count: s9 before s10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def section_numbers(names: Sequence[str], pattern: str = "") -> list[int]:
    """The number of each file.

    Without a pattern it is the last group of digits, of those that every name has, in which all names differ; or the
    last in which any do.

    Args:
        names: of the files, without folder.
        pattern: regular expression whose first group is the number.

    Raises:
        InputError: a name without a number, or numbers that stand twice (names and counts them).
    """
    if pattern:
        try:
            found = [re.search(pattern, name) for name in names]
            numbers = [int(one.group(1)) if one else -1 for one in found]
        except (re.error, IndexError, ValueError, TypeError) as error:
            raise SettingError(
                f"<number>={pattern!r} is no regular expression with a group of digits ({error})"
            ) from None
        lost = [name for name, number in zip(names, numbers) if number < 0]
        if lost:
            raise InputError(
                f"{lost[0]}: does not match number={pattern!r}{_more(len(lost) - 1)}; change it, or choose files by "
                "files=PATTERN"
            )
    else:
        numbers = _by_place(names)
    held = defaultdict(list)
    for name, number in zip(names, numbers):
        held[number].append(name)
    twice = {number: files for number, files in sorted(held.items()) if len(files) > 1}
    if twice:
        number, files = next(iter(twice.items()))
        raise InputError(
            f"{files[0]} and {files[1]} are both section {number} ({len(twice)} numbers stand more than once); say "
            "which digits are the number by --set number='s(\\d+)', or choose files by --set files='*_20x.tif'"
        )
    return numbers


def _by_place(names: Sequence[str]) -> list[int]:
    groups = [[int(digits) for digits in _DIGITS.findall(name[: len(name) - len(suffix_of(name))])] for name in names]
    bare = [name for name, digits in zip(names, groups) if not digits]
    if bare:
        raise InputError(
            f"{bare[0]}: its name holds no number{_more(len(bare) - 1)}; rename it, or choose files by --set "
            "files=PATTERN"
        )
    # Groups counted from the end; a name with more or fewer of them than most counts what it has.
    columns = [[digits[-1 - k] for digits in groups] for k in range(min(map(len, groups)))]
    distinct = [column for column in columns if len(set(column)) == len(names)]
    varied = [column for column in columns if len(set(column)) > 1]
    return (distinct or varied or columns)[0]


def gaps(numbers: Sequence[int]) -> tuple[int, list[int]]:
    """The usual step from number to number, and the numbers that are missing by it; `numbers` ascending."""
    if len(numbers) < 3:
        return 1, []
    steps = Counter(b - a for a, b in pairwise(numbers))
    step = min(one for one, count in steps.items() if count == max(steps.values()))
    return step, [n for a, b in pairwise(numbers) if (b - a) % step == 0 for n in range(a + step, b, step)]


def _more(count: int) -> str:
    return f" (nor do {count} others)" if count > 0 else ""
