"""Two machine instructions that kernels cannot say otherwise: many bytes copied at once, and memory asked for ahead."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

COPIED_BYTES = 32

_BYTE, _NUMBER = ir.IntType(8), ir.IntType(32)
_READ, _KEEP, _DATA = _NUMBER(0), _NUMBER(3), _NUMBER(1)


def _copy(_typing: Any, out: Any, at: Any, data: Any, start: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        many = ir.VectorType(_BYTE, COPIED_BYTES).as_pointer()
        to, source = (
            builder.bitcast(_place(context, builder, signature.args[i], arguments[i], arguments[i + 1]), many)
            for i in (0, 2)
        )
        builder.store(builder.load(source, align=1), to, align=1)
        return context.get_dummy_value()

    return types.void(out, at, data, start), generate


def _prefetch(_typing: Any, data: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = _BYTE.as_pointer()
        place = builder.bitcast(_place(context, builder, signature.args[0], *arguments), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, _NUMBER, _NUMBER, _NUMBER])
        instruction = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        builder.call(instruction, [place, _READ, _KEEP, _DATA])
        return context.get_dummy_value()

    return types.void(data, index), generate


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


copy: Any = intrinsic(_copy)
"""`copy(out, at, data, start)` copies COPIED_BYTES from `data[start]` on to `out[at]` on; they may not overlap."""

prefetch: Any = intrinsic(_prefetch)
"""`prefetch(data, index)` asks for `data[index]`, so that it is near when it is read; it does not wait."""
