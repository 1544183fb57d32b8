"""A table with a foreign key and indexes"""
import sqlalchemy as sa
from alembic import op

revision = "02"
down_revision = "01"


def upgrade():
    op.create_table(
        "review",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("product_id", sa.Integer(), sa.ForeignKey("product.id", ondelete="CASCADE"), nullable=False),
        sa.Column("customer_id", sa.Integer(), sa.ForeignKey("customer.id", ondelete="SET NULL")),
        sa.Column("stars", sa.SmallInteger(), sa.CheckConstraint("stars BETWEEN 1 AND 5", name="ck_review_stars"), nullable=False),
        sa.Column("body", sa.Text()),
        sa.UniqueConstraint("product_id", "customer_id", name="uq_review"))
    op.create_index("ix_review_stars", "review", ["product_id", sa.text("stars DESC")])
    op.execute("INSERT INTO review (id, product_id, customer_id, stars, body)"
               " SELECT g, 100 + g % 40, 1 + g % 50, 1 + g % 5, 'body ' || g FROM generate_series(1, 120) g")


def downgrade():
    op.drop_index("ix_review_stars")
    op.drop_table("review")
