"""Two runs side by side: layer by layer, unit by unit, and what may be claimed of them."""
