"""Settings: what they are, where their values come from, and how they are validated."""
