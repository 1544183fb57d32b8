"""Constraints that wait, and NULLs that are equal"""
import sqlalchemy as sa
from alembic import op

revision = "22"
down_revision = "21"


def upgrade():
    op.add_column("category", sa.Column("rank", sa.Integer()))
    op.execute("UPDATE category SET rank = row FROM (SELECT id AS i, row_number() OVER (ORDER BY id) AS row FROM category) x WHERE i = id")
    op.create_unique_constraint("uq_category_rank", "category", ["rank"], deferrable=True, initially="DEFERRED")
    op.execute("UPDATE category SET rank = 5 - rank")
    op.execute("SET CONSTRAINTS ALL IMMEDIATE")
    op.execute("ALTER TABLE category ADD CONSTRAINT uq_category_null UNIQUE NULLS NOT DISTINCT (parent_id, rank, position)")
    op.drop_constraint("category_parent_id_fkey", "category", type_="foreignkey")
    op.create_foreign_key("fk_category_parent", "category", "category", ["parent_id"], ["id"], deferrable=True, initially="IMMEDIATE", onupdate="CASCADE")
    op.execute("UPDATE category SET id = id * 100")
    op.execute("CLUSTER category USING uq_category_null")
    op.execute("ALTER TABLE orders REPLICA IDENTITY USING INDEX ix_orders_state")


def downgrade():
    op.execute("ALTER TABLE orders REPLICA IDENTITY DEFAULT")
    op.execute("ALTER TABLE category SET WITHOUT CLUSTER")
    op.execute("UPDATE category SET id = id / 100")
    op.drop_constraint("fk_category_parent", "category", type_="foreignkey")
    op.create_foreign_key("category_parent_id_fkey", "category", "category", ["parent_id"], ["id"])
    op.drop_constraint("uq_category_null", "category", type_="unique")
    op.drop_constraint("uq_category_rank", "category", type_="unique")
    op.drop_column("category", "rank")
