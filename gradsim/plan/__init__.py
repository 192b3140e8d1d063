"""What a run needs: bytes and operations."""
