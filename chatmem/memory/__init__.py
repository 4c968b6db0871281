"""What the model is sent of a conversation: strategies, the planner, summaries and retrieval."""
