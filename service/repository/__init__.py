"""The models being served: how they are found, validated, loaded, replaced and removed."""
