"""Did you mean ...?"""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(typed: object, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known word nearest to what was typed, or an empty string."""
    bare = {word.lstrip("-"): word for word in known}  # or the dashes of two flags would make them alike
    matches = get_close_matches(str(typed).lstrip("-"), bare, n=1, cutoff=0.6)
    return f"; did you mean {bare[matches[0]]!r}?" if matches else ""
