"""The queue, the batches, and the device thread on which the policy runs."""
