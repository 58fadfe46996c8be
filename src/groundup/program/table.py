"""A Program as a table: what each line costs."""
