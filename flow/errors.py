"""The two classes of failure: FlowError, which the user can correct, and everything else (an assertion, our bug)."""

from __future__ import annotations

MAX_QUOTED = 400  # characters of another library's message


class FlowError(Exception):
    """The user's input cannot be used.

    The message is one line: the rule, the offending value, the node or file it belongs to, and what to do.
    The command line prints it and exits with status 2.
    """


def first_line(error: BaseException) -> str:
    """The first line of another library's error message, cut to MAX_QUOTED characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 1]}…"
