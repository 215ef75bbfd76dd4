"""The models that are served: found, validated, loaded, replaced and removed."""
