"""Views, materialized views, functions and triggers"""
import sqlalchemy as sa
from alembic import op

revision = "18"
down_revision = "17"


def upgrade():
    op.execute("CREATE VIEW unpaid AS SELECT o.number, c.mail FROM orders o JOIN customer c ON c.id = o.customer_id WHERE NOT o.paid")
    op.execute("CREATE MATERIALIZED VIEW sales AS SELECT l.product_id, sum(l.quantity) AS n, count(*) AS orders FROM order_line l GROUP BY 1")
    op.execute("CREATE UNIQUE INDEX sales_product ON sales (product_id)")
    op.execute("CREATE TABLE changes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number int REFERENCES orders (number), paid bool)")
    op.execute("CREATE FUNCTION note_paid() RETURNS trigger LANGUAGE plpgsql AS"
               " $$BEGIN INSERT INTO changes (number, paid) VALUES (new.number, new.paid); RETURN new; END$$")
    op.execute("CREATE TRIGGER note_paid AFTER UPDATE OF paid ON orders FOR EACH ROW WHEN (old.paid <> new.paid) EXECUTE FUNCTION note_paid()")
    op.execute("UPDATE orders SET paid = NOT paid WHERE number = 1010")
    op.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY sales")


def downgrade():
    op.execute("DROP TRIGGER note_paid ON orders")
    op.execute("DROP FUNCTION note_paid")
    op.execute("UPDATE orders SET paid = NOT paid WHERE number = 1010")
    op.drop_table("changes")
    op.execute("DROP MATERIALIZED VIEW sales")
    op.execute("DROP VIEW unpaid")
