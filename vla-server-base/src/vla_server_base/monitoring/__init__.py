"""What an operator sees of a server: counts and times for Prometheus, traces for OpenTelemetry, and the log."""
