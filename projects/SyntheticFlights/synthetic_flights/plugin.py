"""What this project brings to ``msnet``."""

from msnet_d2.projects import Project

PROJECT = Project(
    title="renders drone flights over damaged neighborhoods, and demonstrates MSNet on them",
    commands={
        "synth": "synthetic_flights.commands.synth",
        "demo": "synthetic_flights.commands.demo",
    },
)
