"""Data move to a table of their own"""
import sqlalchemy as sa
from alembic import op

revision = "13"
down_revision = "12"


def upgrade():
    city = op.create_table("city", sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False), sa.Column("name", sa.Text(), nullable=False, unique=True))
    bind = op.get_bind()
    names = [row.city for row in bind.execute(sa.text("SELECT DISTINCT city FROM address WHERE city IS NOT NULL ORDER BY city"))]
    op.bulk_insert(city, [{"id": i + 1, "name": name} for i, name in enumerate(names)])
    op.add_column("address", sa.Column("city_id", sa.Integer(), sa.ForeignKey("city.id", name="fk_address_city")))
    address = sa.table("address", sa.column("city"), sa.column("city_id"))
    op.execute(address.update().values(city_id=sa.select(city.c.id).where(city.c.name == address.c.city).scalar_subquery()))
    op.drop_column("address", "city")
    op.create_index("ix_address_city", "address", ["city_id"])


def downgrade():
    op.add_column("address", sa.Column("city", sa.Text()))
    op.execute("UPDATE address SET city = name FROM city WHERE city.id = city_id")
    op.drop_index("ix_address_city", "address")
    op.drop_column("address", "city_id")
    op.drop_table("city")
    op.create_unique_constraint("uq_address_city", "address", ["customer_id", "city", "street"])
