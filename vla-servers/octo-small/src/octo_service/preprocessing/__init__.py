"""Text, images and statistics on their way to and from the model; numpy only."""
