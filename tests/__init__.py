"""Tests of chatmem."""
