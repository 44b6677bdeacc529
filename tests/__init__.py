"""The tests of Bulkhead."""
