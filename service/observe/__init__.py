"""What is reported about requests: metrics, drift, traces, logs."""
