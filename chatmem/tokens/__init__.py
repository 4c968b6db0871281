"""Counting tokens: exactly where possible, else estimated and calibrated by what servers report."""
