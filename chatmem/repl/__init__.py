"""The room where one sits."""
