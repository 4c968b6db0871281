"""A chat: one turn from start to end, durable appends, and summaries in the background."""
