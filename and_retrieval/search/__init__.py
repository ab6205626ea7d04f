"""Search of units and of clips by text, by sound and by example."""
