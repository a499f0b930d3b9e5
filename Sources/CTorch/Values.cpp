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

namespace {

// A function of whichever BLAS was loaded, if that has it.
template <typename Function> Function *symbol(const char *name) { return reinterpret_cast<Function *>(dlsym(RTLD_DEFAULT, name)); }

char *copy(const std::string &text) { return strdup(text.c_str()); }

}  // namespace

extern "C" {

const char *ct_error(void) { return failure.c_str(); }

void ct_begin_thread(void) {
    at::set_num_threads(1);
    // libtorch's setting does not reach a BLAS with threads of its own.
    if (auto set = symbol<void(int)>("openblas_set_num_threads")) set(1);
    at::GradMode::set_enabled(false);
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
}

char *ct_describe(enum ct_fact fact) {
    return attempt<char *>(nullptr, [&]() -> char * {
        switch (fact) {
        case CT_VERSION: return copy(TORCH_VERSION);
        case CT_CPU_CAPABILITY: {
            // The vector instructions in use are a line of the library's description of itself.
            const std::string config = at::show_config(), label = "CPU capability usage: ";
            auto start = config.find(label);
            if (start == std::string::npos) return nullptr;
            start += label.size();
            return copy(config.substr(start, config.find('\n', start) - start));
        }
        case CT_BLAS: {
            auto config = symbol<char *()>("openblas_get_config");
            return config ? copy(config()) : nullptr;
        }
        case CT_BLAS_CORE: {
            auto core = symbol<char *()>("openblas_get_corename");
            return core ? copy(core()) : nullptr;
        }
        case CT_BLAS_THREADS: {
            auto threads = symbol<int()>("openblas_get_num_threads");
            return threads ? copy(std::to_string(threads())) : nullptr;
        }
        case CT_ONEDNN: return copy(at::globalContext().hasMKLDNN() ? "yes" : "no");
        case CT_THREADS: return copy(std::to_string(at::get_num_threads()));
        }
        return nullptr;
    });
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
