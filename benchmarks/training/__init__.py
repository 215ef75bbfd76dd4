"""How fast the training loop is, beside those of torchvision and timm."""
