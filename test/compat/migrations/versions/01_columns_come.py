"""Columns come"""
import sqlalchemy as sa
from alembic import op

revision = "01"
down_revision = None


def upgrade():
    op.add_column("customer", sa.Column("phone", sa.String(30)))
    op.add_column("customer", sa.Column("active", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("customer", sa.Column("points", sa.Integer(), nullable=False, server_default="10"))
    op.add_column("address", sa.Column("since", sa.DateTime(timezone=True), server_default=sa.func.now()))
    op.alter_column("customer", "points", server_default=None)
    op.execute("UPDATE customer SET phone = '+49 ' || id, points = id % 5")


def downgrade():
    op.drop_column("address", "since")
    op.drop_column("customer", "points")
    op.drop_column("customer", "active")
    op.drop_column("customer", "phone")
