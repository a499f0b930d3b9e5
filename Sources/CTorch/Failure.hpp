// Handles, and the one place where C++ exceptions become error texts.
#pragma once
#include "CTorch.h"
#include <ATen/ATen.h>
#include <string>
#include <vector>

namespace ct {

inline thread_local std::string failure;

inline at::Tensor &get(ct_tensor tensor) { return *reinterpret_cast<at::Tensor *>(tensor); }
inline ct_tensor wrap(at::Tensor tensor) { return reinterpret_cast<ct_tensor>(new at::Tensor(std::move(tensor))); }
inline at::IntArrayRef shape(const int64_t *values, int32_t count) { return at::IntArrayRef(values, static_cast<size_t>(count)); }
inline c10::optional<at::Tensor> maybe(ct_tensor tensor) {
    return tensor ? c10::optional<at::Tensor>(get(tensor)) : c10::optional<at::Tensor>();
}

inline void remember(const char *text) {
    failure = text;
    // libtorch appends a C++ stack trace; people need the first line.
    if (auto end = failure.find('\n'); end != std::string::npos) failure.resize(end);
}

template <typename Result, typename Body> Result attempt(Result failed, Body body) noexcept {
    try {
        return body();
    } catch (const std::exception &error) {
        remember(error.what());
    } catch (...) {
        remember("an unknown C++ exception");
    }
    return failed;
}

template <typename Body> ct_tensor make(Body body) noexcept {
    return attempt<ct_tensor>(nullptr, [&] { return wrap(body()); });
}

inline at::ScalarType type(int32_t dtype) {
    static constexpr at::ScalarType types[] = {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kShort, at::kChar, at::kByte, at::kBool};
    TORCH_CHECK(dtype >= 0 && dtype < 10, "unknown element type ", dtype);
    return types[dtype];
}

}  // namespace ct
