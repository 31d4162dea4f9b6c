"""One model on several ranks: rows over data ranks, their tokens over context ranks, heads and widths over tensor ranks."""
