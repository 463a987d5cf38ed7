"""What is true: the only package that imports SQLAlchemy. Rows stay in here; domain dataclasses come out."""
