"""What a person sees: everything that reaches the terminal passes this room, and is made safe in it."""
