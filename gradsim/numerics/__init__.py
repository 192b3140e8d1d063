"""Numbers beyond the range of their dtype, and derivatives by tracing."""
