// Making tensors, reading them, and what the library says about itself.
#include "Failure.hpp"
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/grad_mode.h>
#include <cstring>
#include <dlfcn.h>
#include <torch/csrc/api/include/torch/version.h>

using namespace ct;

extern "C" {

const char *ct_error(void) { return failure.c_str(); }

void ct_begin_thread(void) {
    at::set_num_threads(1);
    at::GradMode::set_enabled(false);
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
}

char *ct_describe(void) {
    std::string text = std::string("libtorch ") + TORCH_VERSION;
    // The vector instructions in use are a line of the library's description of itself.
    const std::string config = at::show_config(), label = "CPU capability usage: ";
    if (auto start = config.find(label); start != std::string::npos)
        text += "; CPU capability " + config.substr(start + label.size(), config.find('\n', start) - start - label.size());
    using Text = char *(*)();
    if (auto config = reinterpret_cast<Text>(dlsym(RTLD_DEFAULT, "openblas_get_config"))) text += std::string("; ") + config();
    if (auto core = reinterpret_cast<Text>(dlsym(RTLD_DEFAULT, "openblas_get_corename"))) text += std::string("; BLAS core ") + core();
    text += std::string("; oneDNN ") + (at::globalContext().hasMKLDNN() ? "yes" : "no");
    text += "; threads " + std::to_string(at::get_num_threads());
    return strdup(text.c_str());
}

void ct_free(ct_tensor tensor) { delete &get(tensor); }

ct_tensor ct_from_bytes(const void *data, int32_t dtype, const int64_t *sizes, int32_t dims) {
    return make([&] {
        auto result = at::empty(shape(sizes, dims), type(dtype));
        if (result.nbytes() > 0) std::memcpy(result.data_ptr(), data, result.nbytes());
        return result;
    });
}

ct_tensor ct_full(const int64_t *sizes, int32_t dims, double value, int32_t dtype) {
    return make([&] { return at::full(shape(sizes, dims), value, type(dtype)); });
}

int32_t ct_dims(ct_tensor tensor) { return static_cast<int32_t>(get(tensor).dim()); }
int64_t ct_size(ct_tensor tensor, int32_t dim) { return get(tensor).size(dim); }
int64_t ct_count(ct_tensor tensor) { return get(tensor).numel(); }

int32_t ct_type(ct_tensor tensor) {
    for (int32_t index = 0; index < 10; ++index)
        if (type(index) == get(tensor).scalar_type()) return index;
    return -1;
}

int32_t ct_copy_bytes(ct_tensor tensor, void *out, int64_t bytes) {
    return attempt<int32_t>(-1, [&] {
        auto whole = get(tensor).contiguous();
        TORCH_CHECK(static_cast<int64_t>(whole.nbytes()) == bytes, "a buffer of ", bytes, " bytes for ", whole.nbytes());
        if (bytes > 0) std::memcpy(out, whole.data_ptr(), static_cast<size_t>(bytes));
        return 0;
    });
}

double ct_item(ct_tensor tensor) {
    return attempt<double>(std::numeric_limits<double>::quiet_NaN(), [&] { return get(tensor).item().toDouble(); });
}

int32_t ct_all_finite(ct_tensor tensor) {
    return attempt<int32_t>(-1, [&] { return at::isfinite(get(tensor)).all().item<bool>() ? 1 : 0; });
}
}
