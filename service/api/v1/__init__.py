"""KServe's V1 protocol: predictions and explanations of several images."""
