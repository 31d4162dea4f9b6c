"""Seeds that depend on a key alone: an equal key gives equal draws, in every process and whatever was drawn before.

There are two, and a place keeps the one that it has, for the other would change its results.
"""

from hashlib import blake2b, sha256


def seed64(key: str) -> int:
    """64 bits, of the key's sha256."""
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big")


def seed56(key: str) -> int:
    """56 bits, the key's BLAKE2b of that size."""
    return int.from_bytes(blake2b(key.encode(), digest_size=7).digest(), "little")


def chance(key: str) -> float:
    """A number from 0 to 1, by `seed56`."""
    return seed56(key) / 2**56
