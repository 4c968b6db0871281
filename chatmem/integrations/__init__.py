"""Sessions as the memory of other libraries."""
