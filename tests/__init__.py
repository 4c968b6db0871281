"""The facts that chatmem promises."""
