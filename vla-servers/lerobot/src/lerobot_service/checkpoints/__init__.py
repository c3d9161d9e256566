"""From a model id to a loaded LeRobot policy with its processors; what is not whole is refused."""
