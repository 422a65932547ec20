"""Something happens just before a line of the package is run, whichever module it is in."""

from oracle import PACKAGE

import helpers

INSIDE = str(PACKAGE) + "/" if "/" in str(PACKAGE) else str(PACKAGE) + "\\"


def before_line(number, happens, action):
    """As ``helpers.before_line``, in all files of the package."""
    return helpers.before_line(number, happens, action, lambda name: name.startswith(INSIDE))


def sample_of_lines(lines, count, seed, last=15):
    """Return about ``count`` numbers out of 1 to ``lines``, and the last ones, where all is won."""
    step = max(1, lines // count)
    return sorted({*range(1 + seed % step, lines + 1, step), *range(lines - last, lines + 1)})
