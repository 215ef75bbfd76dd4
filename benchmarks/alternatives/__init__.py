"""The same model behind other servers, each as its own documentation shows, for comparison.

Each file runs in an environment of its own, so none imports anything of this project.
"""
