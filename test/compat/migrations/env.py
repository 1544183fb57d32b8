"""Alembic's environment: the connection comes from migrate.py."""
from alembic import context

from models import Base

with context.config.attributes["connection"].connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, transaction_per_migration=True, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()
