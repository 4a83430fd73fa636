"""Defining operations in Python: a class with declared fields becomes an IRDL operation and an `OpView` with a builder.

IRDL (MLIR's dialect for defining dialects) makes the operations parse, print and verify in any MLIR tool; what IRDL
cannot say (type inference, purity, checks across operands) lives on the Python class. The surface is kept close to
`mlir.dialects.ext` of newer MLIR releases, so that it can be swapped for it.

    @dialect.op("pack")
    class PackOp(DialectOp):
        source = Operand()
        result = Result()
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NoReturn, TypeVar, overload

from mlir import ir
from mlir._mlir_libs import _mlir
from mlir.dialects import irdl

__all__ = [
    "Attr",
    "Dialect",
    "DialectOp",
    "Operand",
    "OptionalAttr",
    "OptionalOperand",
    "OptionalResult",
    "Region",
    "Result",
    "attribute_named",
    "base",
    "one_of",
]

T = TypeVar("T")
F = TypeVar("F", bound="Field[Any]")
Op = TypeVar("Op", bound="DialectOp")

# A constraint is a function that emits a fresh IRDL op: one IRDL value used twice would mean "equal to each other".
Constraint = Callable[[], ir.Value]


def _any_value() -> ir.Value:
    """Accepts anything."""
    return irdl.any()


def base(name: str) -> Constraint:
    """Accepts any instance of a builtin type or attribute, named as IRDL does: `#builtin.integer`, `!builtin.index`."""
    return lambda: irdl.base(base_name=name)


def attribute_named(dialect: str, name: str) -> Constraint:
    """Accepts any instance of an attribute of a dialect that is itself defined by IRDL."""
    return lambda: irdl.base(base_ref=ir.SymbolRefAttr.get([dialect, name]))


def _type_is(text: str) -> Constraint:
    """Accepts exactly one type."""
    return lambda: irdl.is_(ir.TypeAttr.get(ir.Type.parse(text)))


def one_of(*texts: str) -> Constraint:
    """Accepts exactly the listed attributes."""
    return lambda: irdl.any_of([irdl.is_(ir.Attribute.parse(text)) for text in texts])


class Field(ABC, Generic[T]):
    """A part of an operation, declared in its class: there it is the declaration, on an operation the part itself."""

    name: str

    def __set_name__(self, owner: type[DialectOp], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, op: None, owner: type[DialectOp]) -> Field[T]: ...
    @overload
    def __get__(self, op: DialectOp, owner: type[DialectOp]) -> T: ...
    def __get__(self, op: DialectOp | None, owner: type[DialectOp]) -> Field[T] | T:
        return self if op is None else self._read(op)

    def __set__(self, op: DialectOp, value: object) -> NoReturn:
        raise AttributeError(f"{op.OPERATION_NAME}: its {self.name} cannot be set")

    @abstractmethod
    def _read(self, op: DialectOp) -> T:
        """The part of that operation."""


@dataclass(eq=False)
class AnyOperand(Field[T]):
    """What required and optional operands share."""

    constraint: Constraint = _any_value
    optional: ClassVar[bool] = False

    def _values(self, op: DialectOp) -> list[ir.Value]:
        """The operand, or nothing."""
        fields, values = op.fields(AnyOperand), list(op.operation.operands)
        if op._ODS_OPERAND_SEGMENTS is not None:
            sizes = list(ir.DenseI32ArrayAttr(op.operation.attributes["operandSegmentSizes"]))
        else:
            present = len(values) - sum(not field.optional for field in fields)
            sizes = [present if field.optional else 1 for field in fields]
        index = fields.index(self)
        start = sum(sizes[:index])
        return values[start : start + sizes[index]]


class Operand(AnyOperand[ir.Value]):
    """A required operand."""

    def _read(self, op: DialectOp) -> ir.Value:
        (value,) = self._values(op)
        return value


class OptionalOperand(AnyOperand["ir.Value | None"]):
    """An operand that may be absent."""

    optional = True

    def _read(self, op: DialectOp) -> ir.Value | None:
        return next(iter(self._values(op)), None)


@dataclass(eq=False)
class AnyResult(Field[T]):
    """What required and optional results share."""

    constraint: Constraint = _any_value
    optional: ClassVar[bool] = False


class Result(AnyResult[ir.Value]):
    """A required result."""

    def _read(self, op: DialectOp) -> ir.Value:
        return op.operation.results[op.fields(AnyResult).index(self)]


class OptionalResult(AnyResult["ir.Value | None"]):
    """A result that may be absent: the last one."""

    optional = True

    def _read(self, op: DialectOp) -> ir.Value | None:
        results = list(op.operation.results)
        return results[-1] if len(results) == len(op.fields(AnyResult)) else None


@dataclass(eq=False)
class Attr(Field[ir.Attribute]):
    """A required attribute."""

    constraint: Constraint = _any_value

    def _read(self, op: DialectOp) -> ir.Attribute:
        return op.operation.attributes[self.name]


class OptionalAttr(Field["ir.Attribute | None"]):
    """An attribute that may be absent. IRDL knows none such: an op's `check` sees that it is of the right kind."""

    def _read(self, op: DialectOp) -> ir.Attribute | None:
        attributes = op.operation.attributes
        return attributes[self.name] if self.name in attributes else None  # noqa: SIM401  # its `get` makes attributes


@dataclass(eq=False)
class Region(Field[ir.Block]):
    """A region of one block with these argument types; it is read as that block.

    With `extensible` there may be more arguments, which the operation itself must check.
    """

    arguments: tuple[str, ...]
    extensible: bool = False

    def _read(self, op: DialectOp) -> ir.Block:
        return op.operation.regions[op.fields(Region).index(self)].blocks[0]


class DialectOp(ir.OpView):
    """Base of all operations defined in Python; `PURE` and `check` are read by the bit-* passes."""

    PURE: ClassVar[bool] = False
    MNEMONIC: ClassVar[str]
    OPERATION_NAME: ClassVar[str]
    # The stubs say that there are never segments, and that `result` is a property.
    _ODS_OPERAND_SEGMENTS: ClassVar[list[int] | None]  # pyright: ignore[reportIncompatibleVariableOverride]
    result: ClassVar[Result]  # pyright: ignore[reportIncompatibleMethodOverride]
    FIELDS: ClassVar[tuple[Field[Any], ...]]

    def __init__(self, *, results: Sequence[ir.Type] | None = None, loc: Any = None, ip: Any = None, **fields: Any):
        cls = type(self)
        names = [field.name for field in cls.FIELDS]
        if unknown := set(fields) - set(names):
            raise TypeError(f"{cls.OPERATION_NAME}: no field named {sorted(unknown)}; it has {names}")
        for field in cls.FIELDS:
            if isinstance(field, (Operand, Attr)) and fields.get(field.name) is None:
                raise TypeError(f"{cls.OPERATION_NAME}: give its field {field.name}")
        operands = [fields.get(field.name) for field in cls.fields(AnyOperand)]
        given = [field.name for field in (*cls.fields(Attr), *cls.fields(OptionalAttr))]
        attributes = {name: _attribute(fields[name]) for name in given if fields.get(name) is not None}
        if results is None:
            results = cls.infer(**fields) if cls.fields(Result) else []
        if cls._ODS_OPERAND_SEGMENTS is None:
            operands = [value for value in operands if value is not None]
        super().__init__(
            cls.OPERATION_NAME,
            cls._ODS_REGIONS,
            cls._ODS_OPERAND_SEGMENTS,
            None,
            results=list(results),
            operands=operands,
            attributes=attributes,
            regions=len(cls.fields(Region)),
            loc=loc,
            ip=ip,
        )
        for region, field in zip(self.operation.regions, cls.fields(Region), strict=True):
            region.blocks.append(*[ir.Type.parse(text) for text in field.arguments])

    @classmethod
    def infer(cls, **fields: Any) -> list[ir.Type]:
        """Result types from the builder's fields; an op without inference needs `results=`."""
        raise TypeError(f"{cls.OPERATION_NAME}: give the result type with results=[...]")

    def check(self) -> str | None:
        """What is wrong with this op beyond what IRDL says, or None."""
        return None

    @classmethod
    def fields(cls, kind: type[F]) -> tuple[F, ...]:
        """The declared fields of a kind, in order."""
        key = cls, kind  # reading any part of an operation asks for them
        if key not in _FIELDS:
            _FIELDS[key] = tuple(field for field in cls.FIELDS if isinstance(field, kind))
        return _FIELDS[key]


_FIELDS: dict[tuple[type[DialectOp], type[Field[Any]]], tuple[Any, ...]] = {}


def _attribute(value: Any) -> ir.Attribute:
    if isinstance(value, ir.Attribute):
        return value
    if isinstance(value, int):
        return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
    if isinstance(value, (list, tuple)):
        return ir.DenseI64ArrayAttr.get(list(value))
    raise TypeError(f"no attribute for {value!r}")


class Dialect:
    """A dialect whose operations are Python classes.

    Example:
        >>> toy = Dialect("toy_example")
        >>> @toy.op("double")
        ... class DoubleOp(DialectOp):
        ...     source = Operand()
        ...     result = Result()
        >>> with ir.Context(), ir.Location.unknown():
        ...     "irdl.operation @double" in str(toy.irdl_module())
        True
    """

    def __init__(self, name: str, package: str | None = None) -> None:
        """`package` is where MLIR finds the module named like the dialect, so that parsed ops get their classes."""
        self.name = name
        self._attributes: dict[str, dict[str, Constraint]] = {}
        self._ops: list[type[DialectOp]] = []
        self._namespace = type(name, (ir.Dialect,), {"DIALECT_NAMESPACE": name})
        _mlir.register_dialect(self._namespace)
        if package is not None:
            _mlir.globals.append_dialect_search_prefix(package)

    @property
    def ops(self) -> tuple[type[DialectOp], ...]:
        """The operations, in the order they were defined."""
        return tuple(self._ops)

    def attribute(self, name: str, /, **parameters: Constraint) -> None:
        """Define an attribute `#dialect.name<parameters…>`."""
        self._attributes[name] = parameters

    def op(self, mnemonic: str) -> Callable[[type[Op]], type[Op]]:
        """Class decorator: define the operation `dialect.mnemonic` from the fields declared in the class."""

        def define(cls: type[Op]) -> type[Op]:
            cls.FIELDS = tuple(field for field in vars(cls).values() if isinstance(field, Field))
            cls.MNEMONIC = mnemonic
            cls.OPERATION_NAME = f"{self.name}.{mnemonic}"
            # MLIR wants segment sizes as soon as two groups may vary; required ones count 1, optional ones 0.
            optional = [field.optional for field in cls.fields(AnyOperand)]
            cls._ODS_OPERAND_SEGMENTS = [0 if maybe else 1 for maybe in optional] if sum(optional) > 1 else None
            cls._ODS_RESULT_SEGMENTS = None
            cls._ODS_REGIONS = (len(cls.fields(Region)), True)
            _mlir.register_operation(self._namespace)(cls)
            self._ops.append(cls)
            return cls

        return define

    def irdl_module(self) -> ir.Module:
        """The dialect as an IRDL module (upstream tools read it with `mlir-opt --irdl-file`)."""
        module = ir.Module.create()
        with ir.InsertionPoint(module.body), ir.InsertionPoint(irdl.dialect(self.name).body):
            for name, parameters in self._attributes.items():
                with ir.InsertionPoint(irdl.attribute(name).body):
                    irdl.parameters([make() for make in parameters.values()], list(parameters))
            for cls in self._ops:
                with ir.InsertionPoint(irdl.operation_(cls.MNEMONIC).body):
                    _emit_fields(cls)
        return module

    def load(self, context: ir.Context) -> None:
        """Make the dialect known to a context; loading it again does nothing."""
        try:
            context.get_dialect_descriptor(self.name)
        except Exception:
            with context, ir.Location.unknown():
                irdl.load_dialects(self.irdl_module())  # pyright: ignore[reportAttributeAccessIssue]  # not in the stubs


def _emit_fields(cls: type[DialectOp]) -> None:
    """Emit the IRDL description of one op's fields at the insertion point."""
    single, optional = irdl.Variadicity.single, irdl.Variadicity.optional
    if operands := cls.fields(AnyOperand):
        kinds = [optional if field.optional else single for field in operands]
        irdl.operands_([field.constraint() for field in operands], _names(operands), kinds)
    if results := cls.fields(AnyResult):
        kinds = [optional if field.optional else single for field in results]
        irdl.results_([field.constraint() for field in results], _names(results), kinds)
    if attributes := cls.fields(Attr):
        irdl.attributes_([field.constraint() for field in attributes], _names(attributes))
    if regions := cls.fields(Region):
        one_block = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), 1)
        described = []
        for field in regions:
            # IRDL knows the arguments, or nothing about them.
            arguments = [] if field.extensible else [_type_is(text)() for text in field.arguments]
            constrained = not field.extensible
            described.append(irdl.region(arguments, number_of_blocks=one_block, constrained_arguments=constrained))
        irdl.regions_(described, _names(regions))


def _names(fields: Sequence[Field[Any]]) -> list[str]:
    return [field.name for field in fields]
