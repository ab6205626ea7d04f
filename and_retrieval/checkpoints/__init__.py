"""Model files: where they come from, how they are checked, and the networks rebuilt from them."""
