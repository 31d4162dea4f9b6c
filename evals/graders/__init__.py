"""Judges of answers: the same function scores an answer in an evaluation and rewards it in RL (`grade.grade`)."""
