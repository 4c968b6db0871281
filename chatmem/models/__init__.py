"""Who answers: any OpenAI-compatible server, or the built-in offline model."""
