"""The models being served: found, validated, loaded, replaced, removed."""
