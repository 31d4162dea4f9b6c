"""A place to run code that nobody has read: two processes, one with the tests and one with the code."""
