"""The two classes of failure: what the user can mend, and everything else (an assertion, our bug)."""


class FlowError(Exception):
    """The user's input cannot be used.

    The message is one line: the rule, the offending value, the node or file it belongs to, and what to do.
    The command line prints it and exits with status 2.
    """
