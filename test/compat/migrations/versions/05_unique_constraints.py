"""Unique constraints"""
import sqlalchemy as sa
from alembic import op

revision = "05"
down_revision = "04"


def upgrade():
    op.drop_constraint("uq_address", "address", type_="unique")
    op.create_unique_constraint("uq_address_city", "address", ["customer_id", "city", "street"])
    op.create_index("uq_customer_phone", "customer", ["phone"], unique=True)
    op.execute("ALTER TABLE customer ADD CONSTRAINT uq_phone UNIQUE USING INDEX uq_customer_phone")
    op.create_index("uq_product_weight", "product", ["weight"], unique=True, postgresql_where=sa.text("weight > 50"))


def downgrade():
    op.drop_index("uq_product_weight")
    op.drop_constraint("uq_phone", "customer", type_="unique")
    op.drop_constraint("uq_address_city", "address", type_="unique")
    op.create_unique_constraint("uq_address", "address", ["customer_id", "street"])
