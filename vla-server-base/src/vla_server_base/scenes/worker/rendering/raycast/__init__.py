"""The parts of ray casting: rays, what they meet, and the colours of it. Only MuJoCo and numpy."""
