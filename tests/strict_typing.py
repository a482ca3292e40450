"""What enforces annotations in tests, and the way past it for tests of our own error messages."""

import inspect

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a fine float


def unchecked(function):
    """The function as a user without beartype meets it."""
    return inspect.unwrap(function)
