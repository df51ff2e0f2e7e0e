"""Runs: a folder per dataset and settings, the notebooks that fill it, and the report at its end."""
