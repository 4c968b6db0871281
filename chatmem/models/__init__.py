"""Models: any OpenAI-compatible server, and the built-in offline model."""
