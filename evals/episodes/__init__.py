"""Episodes of several turns with tools, played through the engine, as tokens and as messages."""
