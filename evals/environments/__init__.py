"""Environments: tools over tables, played call by call (`session.open_session`) and judged by the tables at the end."""
