"""Check constraints"""
import sqlalchemy as sa
from alembic import op

revision = "06"
down_revision = "05"


def upgrade():
    op.create_check_constraint("ck_customer_mail", "customer", "mail LIKE '%@%'")
    op.drop_constraint("ck_product_price", "product", type_="check")
    op.create_check_constraint("ck_product_price", "product", "price >= 0 AND price < 100000")
    op.execute("ALTER TABLE item ADD CONSTRAINT ck_item_quantity CHECK (quantity > 0) NOT VALID")
    op.execute("ALTER TABLE item VALIDATE CONSTRAINT ck_item_quantity")


def downgrade():
    op.drop_constraint("ck_item_quantity", "item", type_="check")
    op.drop_constraint("ck_product_price", "product", type_="check")
    op.create_check_constraint("ck_product_price", "product", "price >= 0")
    op.drop_constraint("ck_customer_mail", "customer", type_="check")
