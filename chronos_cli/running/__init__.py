"""Runs of jobs: their actions, supervised process groups, output, and the locks that tell whether they live."""
