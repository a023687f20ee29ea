"""Writes the part of onnxruntime's C header that examples/c/classify.c uses, for a machine that has the library alone.

onnxruntime's API is a table of functions that only grows at its end, so each function's place is fixed. The places below are
those of onnxruntime 1.17 and newer; real programs use the header from onnxruntime's release page.
"""

from __future__ import annotations

FUNCTIONS = {
    2: "const char *(*GetErrorMessage)(const OrtStatus *)",
    3: "OrtStatus *(*CreateEnv)(int, const char *, OrtEnv **)",
    7: "OrtStatus *(*CreateSession)(const OrtEnv *, const char *, const OrtSessionOptions *, OrtSession **)",
    9: "OrtStatus *(*Run)(OrtSession *, const void *, const char *const *, const OrtValue *const *, size_t,"
    " const char *const *, size_t, OrtValue **)",
    10: "OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **)",
    49: "OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *, void *, size_t, const int64_t *, size_t, int,"
    " OrtValue **)",
    51: "OrtStatus *(*GetTensorMutableData)(OrtValue *, void **)",
    69: "OrtStatus *(*CreateCpuMemoryInfo)(int, int, OrtMemoryInfo **)",
    78: "OrtStatus *(*GetAllocatorWithDefaultOptions)(OrtAllocator **)",
    92: "void (*ReleaseEnv)(OrtEnv *)",
    94: "void (*ReleaseMemoryInfo)(OrtMemoryInfo *)",
    95: "void (*ReleaseSession)(OrtSession *)",
    96: "void (*ReleaseValue)(OrtValue *)",
    100: "void (*ReleaseSessionOptions)(OrtSessionOptions *)",
    111: "OrtStatus *(*SessionGetModelMetadata)(const OrtSession *, OrtModelMetadata **)",
    116: "OrtStatus *(*ModelMetadataLookupCustomMetadataMap)(const OrtModelMetadata *, OrtAllocator *, const char *, char **)",
    118: "void (*ReleaseModelMetadata)(OrtModelMetadata *)",
}
TYPES = ["Status", "Env", "Session", "SessionOptions", "Allocator", "Value", "MemoryInfo", "ModelMetadata"]


def header() -> str:
    """The header's text."""
    types = [f"typedef struct Ort{name} Ort{name};" for name in TYPES]
    members, place = [], 0
    for at, function in FUNCTIONS.items():
        if at > place:
            members.append(f"    void *unused{place}[{at - place}];")
        members.append(f"    {function};")
        place = at + 1
    constants = "ORT_LOGGING_LEVEL_ERROR = 3, OrtArenaAllocator = 0, OrtMemTypeDefault = 0"
    lines = [
        "#include <stddef.h>\n#include <stdint.h>",
        *types,
        f"enum {{ {constants} }};",
        "typedef enum { ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 = 2 } ONNXTensorElementDataType;",
        "typedef struct {",
        *members,
        "} OrtApi;",
        "typedef struct { const OrtApi *(*GetApi)(uint32_t); const char *(*GetVersionString)(void); } OrtApiBase;",
        "const OrtApiBase *OrtGetApiBase(void);",
    ]
    return "\n".join(lines) + "\n"
