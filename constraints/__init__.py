"""What a slate has to satisfy, whoever writes it: training, a graph, compiled code, or a fallback."""
