"""Sound: files, the clips cut from them, what is measured of a clip, and the index of clips."""
