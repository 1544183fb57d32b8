"""Computed and identity columns"""
import sqlalchemy as sa
from alembic import op

revision = "19"
down_revision = "18"


def upgrade():
    op.add_column("product", sa.Column("gross", sa.Numeric(14, 4), sa.Computed("price * 1.19", persisted=True)))
    op.create_index("ix_product_gross", "product", ["gross"])
    op.create_table("ticket", sa.Column("id", sa.BigInteger(), sa.Identity(always=True, start=5, increment=5), primary_key=True),
                    sa.Column("note", sa.String(20), nullable=False), sa.Column("length", sa.Integer(), sa.Computed("length(note)")))
    op.execute("INSERT INTO ticket (note) SELECT 'note ' || g FROM generate_series(1, 12) g")
    op.execute("UPDATE product SET price = price + 1 WHERE id % 2 = 0")


def downgrade():
    op.execute("UPDATE product SET price = price - 1 WHERE id % 2 = 0")
    op.drop_table("ticket")
    op.drop_index("ix_product_gross")
    op.drop_column("product", "gross")
