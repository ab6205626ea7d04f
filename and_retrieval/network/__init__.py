"""Inside a network: its layers, what they put out, and what happens when units are silenced."""
