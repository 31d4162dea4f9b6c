"""Chats for supervised fine-tuning: lines of chat jsonl, seeded transforms, tokens with a loss mask, rows."""
