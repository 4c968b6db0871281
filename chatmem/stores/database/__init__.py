"""Database stores: SQLite, Redis, PostgreSQL and MongoDB behind one small interface."""
