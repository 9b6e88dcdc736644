"""What is told about requests: metrics, drift, traces, logs."""
