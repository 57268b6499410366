"""The experiments of Sarathi-Serve (OSDI 2024, arXiv:2403.02310), side by side with the published numbers."""
