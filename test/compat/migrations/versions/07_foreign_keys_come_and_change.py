"""Foreign keys come and change"""
import sqlalchemy as sa
from alembic import op

revision = "07"
down_revision = "06"


def upgrade():
    op.drop_constraint("product_category_id_fkey", "product", type_="foreignkey")
    op.create_foreign_key("fk_product_category", "product", "category", ["category_id"], ["id"], ondelete="SET NULL", onupdate="CASCADE")
    op.add_column("purchase", sa.Column("address_id", sa.Integer()))
    op.execute("UPDATE purchase p SET address_id = (SELECT min(id) FROM address a WHERE a.customer_id = p.customer_id)")
    op.create_foreign_key("fk_purchase_address", "purchase", "address", ["address_id"], ["id"], ondelete="SET NULL")
    op.execute("UPDATE category SET id = 40 WHERE id = 4")
    op.execute("ALTER TABLE review DROP CONSTRAINT review_customer_id_fkey, ADD CONSTRAINT fk_review_customer FOREIGN KEY (customer_id)"
               " REFERENCES customer ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED NOT VALID")
    op.execute("ALTER TABLE review VALIDATE CONSTRAINT fk_review_customer")


def downgrade():
    op.drop_constraint("fk_review_customer", "review", type_="foreignkey")
    op.create_foreign_key("review_customer_id_fkey", "review", "customer", ["customer_id"], ["id"], ondelete="SET NULL")
    op.execute("UPDATE category SET id = 4 WHERE id = 40")
    op.drop_constraint("fk_purchase_address", "purchase", type_="foreignkey")
    op.drop_column("purchase", "address_id")
    op.drop_constraint("fk_product_category", "product", type_="foreignkey")
    op.create_foreign_key("product_category_id_fkey", "product", "category", ["category_id"], ["id"])
