"""Indexes of all kinds"""
import sqlalchemy as sa
from alembic import op

revision = "15"
down_revision = "14"


def upgrade():
    op.create_index("ix_orders_number", "orders", [sa.text("number DESC NULLS LAST")], postgresql_include=["paid"])
    op.create_index("ix_product_upper", "product", [sa.text("upper(code)"), "price"], unique=True)
    op.create_index("ix_customer_pattern", "customer", ["full_name"], postgresql_ops={"full_name": "text_pattern_ops"})
    op.create_index("ix_orders_unpaid", "orders", ["customer_id", "day"], postgresql_where=sa.text("NOT paid"))
    with op.get_context().autocommit_block():
        op.create_index("ix_review_body", "review", ["body"], postgresql_concurrently=True)
        op.drop_index("ix_review_stars", postgresql_concurrently=True)


def downgrade():
    with op.get_context().autocommit_block():
        op.create_index("ix_review_stars", "review", ["product_id", sa.text("stars DESC")], postgresql_concurrently=True)
        op.drop_index("ix_review_body", postgresql_concurrently=True)
    op.drop_index("ix_orders_unpaid")
    op.drop_index("ix_customer_pattern")
    op.drop_index("ix_product_upper")
    op.drop_index("ix_orders_number")
