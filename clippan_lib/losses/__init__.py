"""Losses: functions, one formula each, of Stage I, of the language term and of fidelity to the inputs."""
