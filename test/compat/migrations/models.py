"""The schema before the first revision, as an application declares it."""
from sqlalchemy import (Boolean, CheckConstraint, Column, Date, DateTime, Enum, ForeignKey, ForeignKeyConstraint, Identity, Index, Integer,
                        LargeBinary, Numeric, String, Text, UniqueConstraint, func, text)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID
from sqlalchemy.orm import declarative_base, relationship

Base = declarative_base()


class Customer(Base):
    __tablename__ = "customer"
    id = Column(Integer, primary_key=True)
    mail = Column(String(80), nullable=False, unique=True)
    name = Column(String(40), nullable=False, index=True)
    mood = Column(Enum("good", "bad", name="mood"), nullable=False, server_default="good")
    zip = Column(String(10))
    created = Column(DateTime(timezone=True), nullable=False, server_default=func.now())
    data = Column(JSONB)
    tags = Column(ARRAY(Text))
    version = Column(Integer, nullable=False)
    addresses = relationship("Address", back_populates="customer", cascade="all, delete-orphan", order_by="Address.id", passive_deletes=True)
    purchases = relationship("Purchase", back_populates="customer")
    __table_args__ = (Index("ix_customer_lower", text("lower(mail)")),
                      Index("ix_customer_bad", "zip", postgresql_where=text("mood = 'bad'")))
    __mapper_args__ = {"version_id_col": version}


class Address(Base):
    __tablename__ = "address"
    id = Column(Integer, primary_key=True)
    customer_id = Column(ForeignKey("customer.id", ondelete="CASCADE"), nullable=False)
    street = Column(Text, nullable=False)
    city = Column(Text)
    customer = relationship("Customer", back_populates="addresses")
    __table_args__ = (UniqueConstraint("customer_id", "street", name="uq_address"),)


class Product(Base):
    __tablename__ = "product"
    id = Column(Integer, Identity(start=100), primary_key=True)
    sku = Column(String(20), unique=True)
    price = Column(Numeric(10, 2), nullable=False)
    weight = Column(Text)
    photo = Column(LargeBinary)
    category_id = Column(ForeignKey("category.id"), index=True)
    category = relationship("Category", back_populates="products")
    __table_args__ = (CheckConstraint("price >= 0", name="ck_product_price"),)


class Category(Base):
    __tablename__ = "category"
    id = Column(Integer, primary_key=True, autoincrement=False)
    parent_id = Column(ForeignKey("category.id"))
    name = Column(Text, nullable=False)
    children = relationship("Category")
    products = relationship("Product", back_populates="category")


class Purchase(Base):
    __tablename__ = "purchase"
    id = Column(UUID(as_uuid=True), primary_key=True, server_default=text("gen_random_uuid()"))
    number = Column(Integer, nullable=False, unique=True)
    customer_id = Column(ForeignKey("customer.id"), nullable=False)
    day = Column(Date, nullable=False)
    paid = Column(Boolean, nullable=False, server_default=text("false"))
    customer = relationship("Customer", back_populates="purchases")
    items = relationship("Item", back_populates="purchase", cascade="all, delete-orphan")
    __table_args__ = (Index("ix_purchase_day", day.desc().nullslast(), "customer_id"),)


class Item(Base):
    __tablename__ = "item"
    purchase_id = Column(ForeignKey("purchase.id", ondelete="CASCADE"), primary_key=True)
    product_id = Column(ForeignKey("product.id"), primary_key=True)
    quantity = Column(Integer, nullable=False, server_default="1")
    purchase = relationship("Purchase", back_populates="items")
    product = relationship("Product")


class Parcel(Base):
    """Refers to a key of two columns."""
    __tablename__ = "parcel"
    id = Column(Integer, primary_key=True)
    purchase_id = Column(UUID(as_uuid=True), nullable=False)
    product_id = Column(Integer, nullable=False)
    carrier = Column(String(20), nullable=False)
    kind = Column(String(10), nullable=False)
    __table_args__ = (ForeignKeyConstraint(["purchase_id", "product_id"], ["item.purchase_id", "item.product_id"], ondelete="CASCADE"),)
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "parcel"}


class Express(Parcel):
    """Inherits by a table of its own, whose key refers to its parent's."""
    __tablename__ = "express"
    id = Column(ForeignKey("parcel.id", ondelete="CASCADE"), primary_key=True)
    hours = Column(Integer)
    __mapper_args__ = {"polymorphic_identity": "express"}
