"""Where user contexts are kept between requests. Knows nothing of models or HTTP."""
