"""Fillings as jobs: processes of their own, what they left on disk, what is predicted."""
