"""Evaluation: scores of methods on scenes, intervals of differences, embeddings, and the protocol laboratory."""
