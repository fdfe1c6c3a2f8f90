"""The fixture of :mod:`helpers.flights`."""

from helpers.flights import flights  # noqa: F401
