"""A table made anew by batch operations"""
import sqlalchemy as sa
from alembic import op

revision = "14"
down_revision = "13"


def express(*columns):
    # constraints without names: those of the table that is replaced are taken
    return sa.Table("express", sa.MetaData(), sa.Column("id", sa.Integer(), sa.ForeignKey("parcel.id", ondelete="CASCADE"), primary_key=True), *columns)


def upgrade():
    with op.batch_alter_table("express", recreate="always", copy_from=express(sa.Column("hours", sa.Integer()))) as batch:
        batch.add_column(sa.Column("grams", sa.Integer(), nullable=False, server_default="1"))
        batch.alter_column("hours", new_column_name="within", type_=sa.Text(), existing_type=sa.Integer())
    op.create_index("ix_express_within", "express", ["within"])
    with op.batch_alter_table("category") as batch:
        batch.add_column(sa.Column("position", sa.Integer()))
        batch.create_unique_constraint("uq_category", ["parent_id", "name"])


def downgrade():
    with op.batch_alter_table("category") as batch:
        batch.drop_constraint("uq_category", type_="unique")
        batch.drop_column("position")
    op.drop_index("ix_express_within", "express")
    table = express(sa.Column("within", sa.Text()), sa.Column("grams", sa.Integer(), nullable=False, server_default="1"))
    with op.batch_alter_table("express", recreate="always", copy_from=table) as batch:
        batch.drop_column("grams")
        batch.alter_column("within", new_column_name="hours", type_=sa.Integer(), existing_type=sa.Text())
