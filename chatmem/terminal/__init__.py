"""What a person sees. Foreign text is sanitized before it reaches the terminal."""
