"""What a person must set right before the program can go on, told in one line.

Raised anywhere below the command line, shown by it without a traceback. Never for what a client did wrong: requests
and frames have their own errors.
"""


class Problem(Exception):
    """`str(problem)` is one line for people: what is wrong and what to do. Holds no secrets."""

    exit_code = 1
