"""From a window to an action chunk: images resized, noise by seed, history filled, chunks continued."""
