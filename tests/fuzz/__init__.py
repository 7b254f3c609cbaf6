"""Fuzzing: damaged and extreme files through every reader and what comes after it.

`python -m tests.fuzz --seconds 120 --seed 1` runs it; a case ends well with success or with one
`NnetError`, within a second and half a gigabyte, without a warning and with a short message.
"""
