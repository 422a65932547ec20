"""Something happens just before a line of the package is run, whichever module it is in."""

import sys

from oracle import PACKAGE

INSIDE = str(PACKAGE) + "/" if "/" in str(PACKAGE) else str(PACKAGE) + "\\"


def before_line(number, happens, action):
    """Call ``action``, and ``happens`` before the line of that number that it runs, from 1.

    Returns what ``action`` returns, or None where a KeyboardInterrupt came through, and how many
    lines were run.
    """
    tracer, lines = sys.gettrace(), 0  # that of a coverage measurement

    def trace(frame, event, _):
        nonlocal lines
        if not frame.f_code.co_filename.startswith(INSIDE):
            return None
        lines += event == "line"
        if event == "line" and lines == number:
            sys.settrace(tracer)
            happens()
        return trace

    result = None
    sys.settrace(trace)
    try:
        result = action()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(tracer)
    return result, lines


def sample_of_lines(lines, count, seed, last=15):
    """Return about ``count`` numbers out of 1 to ``lines``, and the last ones, where all is won."""
    step = max(1, lines // count)
    return sorted({*range(1 + seed % step, lines + 1, step), *range(lines - last, lines + 1)})
