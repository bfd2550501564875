"""Audits: fairness, privacy, editing strength; they read a run folder and nothing else."""
