"""Runs a teacher once over a data set and writes what it says into a store; weighs encodings.

`settings` names the data, `session` opens data and teacher, `processes` writes; `audit` measures
what an encoding costs and loses before one is bought.
"""
