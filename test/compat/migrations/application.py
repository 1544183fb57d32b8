"""What an application does with its tables.  Each function returns lines that must be the same whatever the tables' access method."""
import datetime
import uuid

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.orm import Session, aliased, joinedload, selectinload
from sqlalchemy.orm.exc import StaleDataError

from models import Address, Category, Customer, Express, Item, Parcel, Product, Purchase


def violation(session, what):
    """Does what in a savepoint, and names the constraint that refuses it."""
    try:
        with session.begin_nested():
            what()
            session.flush()
        return "nothing"
    except IntegrityError as error:
        return "%s %s" % (error.orig.pgcode, error.orig.diag.constraint_name)


def number(n):
    return uuid.UUID(int=n)


def fill(engine):
    with Session(engine) as session:
        session.add(Category(id=1, name="all", children=[Category(id=2, name="books", children=[Category(id=4, name="maps")]),
                                                         Category(id=3, name="tools")]))
        session.flush()
        for i in range(1, 41):
            session.add(Product(sku="sku-%03d" % i, price=i * 1.25, weight=str(i * 7), photo=b"\x00\xff" * i, category_id=1 + i % 4))
        for i in range(1, 61):
            session.add(Customer(mail="Name%d@example.org" % i, name="name %d" % (i % 17), mood="bad" if i % 5 == 0 else "good", zip="%05d" % (i * 37),
                                 data={"n": i, "list": [i, None, "x"]}, tags=["a", "b%d" % (i % 3)] if i % 2 else None,
                                 addresses=[Address(street="street %d" % j, city="city %d" % (i % 7)) for j in range(i % 4)]))
        session.flush()
        for i in range(1, 101):
            purchase = Purchase(id=number(i), number=1000 + i, customer_id=1 + i % 50, day=datetime.date(2020, 1, 1) + datetime.timedelta(days=i),
                                paid=i % 3 == 0)
            purchase.items = [Item(product_id=p, quantity=k) for p, k in {100 + i * k % 40: k for k in (1, 2, 3) if i % k == 0}.items()]
            session.add(purchase)
        session.flush()
        for i, item in enumerate(session.scalars(select(Item).order_by(Item.purchase_id, Item.product_id)).all()[:30]):
            kind = Express(hours=i) if i % 3 == 0 else Parcel()
            kind.purchase_id, kind.product_id, kind.carrier = item.purchase_id, item.product_id, "carrier %d" % (i % 3)
            session.add(kind)
        session.commit()


def use(engine):
    said = []
    with Session(engine) as session:
        # reading in all the usual ways
        query = select(Customer).options(selectinload(Customer.addresses), joinedload(Customer.purchases).selectinload(Purchase.items))
        for c in session.scalars(query.order_by(Customer.id).where(Customer.mood == "bad")).unique():
            said.append("%d %s %s %s" % (c.id, c.mail, [a.street for a in c.addresses], sorted((p.number, len(p.items)) for p in c.purchases)))
        tree = select(Category.id, Category.name).where(Category.parent_id.is_(None)).cte("tree", recursive=True)
        child = aliased(Category)
        tree = tree.union_all(select(child.id, child.name).join(tree, child.parent_id == tree.c.id))
        said += [str(row) for row in session.execute(select(tree).order_by(tree.c.id))]
        # pages by key
        last, pages = 0, 0
        while True:
            page = session.execute(select(Product.id, Product.sku).where(Product.id > last).order_by(Product.id).limit(7)).all()
            if not page:
                break
            last, pages = page[-1].id, pages + 1
        said.append("%d pages, the last id %d" % (pages, last))
        said += [str(row) for row in session.execute(select(Category.name, func.count(Product.id), func.sum(Product.price)).join(Product)
                                                     .group_by(Category.name).order_by(Category.name))]
        said += [type(p).__name__ for p in session.scalars(select(Parcel).order_by(Parcel.id).limit(5))]
        # what constraints refuse, inside of savepoints
        said.append(violation(session, lambda: session.add(Customer(mail="Name1@example.org", name="again"))))
        said.append(violation(session, lambda: session.add(Address(customer_id=4711, street="nowhere"))))
        said.append(violation(session, lambda: session.add(Product(sku="cheap", price=-1))))
        said.append(violation(session, lambda: session.execute(text("DELETE FROM product WHERE id = 101"))))
        said.append(violation(session, lambda: session.execute(text("UPDATE purchase SET number = 1001 WHERE number = 1002"))))
        # changes: cascades, orphans, a key that changes, rows that move from one parent to another
        customer = session.get(Customer, 7)
        customer.addresses = customer.addresses[1:] + [Address(street="new", city="new")]
        customer.data = {**customer.data, "changed": True}
        without, other = session.get(Customer, 8), session.get(Customer, 11)
        without.addresses.append(other.addresses[0])
        session.delete(session.get(Customer, 55))
        session.delete(session.get(Purchase, number(100)))
        session.commit()
        said += [str(row) for row in session.execute(select(Address.customer_id, Address.street).order_by(Address.customer_id, Address.street))]
        # upserts
        rows = [{"sku": "sku-%03d" % i, "price": i} for i in (1, 2, 500, 501)]
        statement = insert(Product).values(rows)
        statement = statement.on_conflict_do_update(index_elements=["sku"], set_={"price": Product.price + statement.excluded.price}) \
            .returning(Product.sku, Product.price)
        said += sorted(str(row) for row in session.execute(statement))
        said.append(str(session.execute(insert(Product).values(rows).on_conflict_do_nothing().returning(Product.id)).all()))
        said += sorted(str(row) for row in session.execute(text("INSERT INTO customer (mail, name, version) VALUES ('Name2@example.org', 'x', 1), ('new@example.org', 'x', 1)"
                       " ON CONFLICT (mail) DO UPDATE SET name = excluded.name RETURNING mail, name")))
        session.commit()
        # locks, and a cursor of the server's
        said.append(str(session.scalars(select(Customer.id).where(Customer.id < 5).order_by(Customer.id).with_for_update(skip_locked=True)).all()))
        session.commit()
        said.append(str(sum(1 for _ in session.execute(select(Item).execution_options(stream_results=True, yield_per=10)))))
        # a version counter of the application's: who comes second is told
        mine = session.get(Customer, 9)
        with Session(engine) as other:
            other.get(Customer, 9).name = "theirs"
            other.commit()
        mine.name = "mine"
        try:
            session.commit()
            said.append("both")
        except StaleDataError:
            session.rollback()
            said.append("stale: " + session.get(Customer, 9).name)
    return said


def reflected(engine, metadata):
    """Everything that SQLAlchemy reads out of the catalogs; and classes made of it work."""
    said = []
    for table in metadata.sorted_tables:
        said.append("%s: %s" % (table.fullname, ", ".join("%s %r %s" % (c.name, c.type, "" if c.nullable else "NOT NULL") for c in table.columns)))
        said.append("  key %s" % [c.name for c in table.primary_key.columns])
        said += sorted("  %s %s" % (sorted(k.target_fullname for k in f.elements), f.ondelete) for f in table.foreign_key_constraints)
        said += sorted("  %s %s %s" % (i.name, i.unique, [str(e) for e in i.expressions]) for i in table.indexes)
    automap = automap_base(metadata=metadata)
    automap.prepare()
    with Session(engine) as session:
        for name in sorted(automap.classes.keys()):
            mapped = automap.classes[name]
            keys = [c for c in mapped.__table__.primary_key.columns]
            rows = session.scalars(select(mapped).order_by(*keys)).all()
            if rows:
                key = tuple(getattr(rows[-1], c.name) for c in keys)
                said.append("%s: %d, the last one found by its key: %s" % (name, len(rows), session.get(mapped, key) is rows[-1]))
    return said
