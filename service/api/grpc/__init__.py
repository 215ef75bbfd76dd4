"""The Open Inference Protocol's calls over gRPC: their messages, and what answers them."""
