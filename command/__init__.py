"""Sightglass serves image classifiers that explain their answers with Grad-CAM."""
