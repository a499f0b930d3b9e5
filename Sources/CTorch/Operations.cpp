// Element-wise operations, reductions, shapes and layers.
#include "Failure.hpp"
#include <ATen/core/grad_mode.h>

using namespace ct;

extern "C" {

ct_tensor ct_apply_unary(int32_t op, ct_tensor handle) {
    return make([&]() -> at::Tensor {
        const auto &a = get(handle);
        switch (op) {
        case CT_NEG: return a.neg();
        case CT_EXP: return a.exp();
        case CT_EXPM1: return a.expm1();
        case CT_LOG: return a.log();
        case CT_LOG1P: return a.log1p();
        case CT_SQRT: return a.sqrt();
        case CT_RSQRT: return a.rsqrt();
        case CT_SQUARE: return a.square();
        case CT_ABS: return a.abs();
        case CT_RELU: return a.relu();
        case CT_SIGMOID: return a.sigmoid();
        case CT_TANH: return a.tanh();
        case CT_SOFTPLUS: return at::softplus(a);
        case CT_SIN: return a.sin();
        case CT_COS: return a.cos();
        case CT_RECIPROCAL: return a.reciprocal();
        case CT_ERF: return a.erf();
        case CT_LGAMMA: return a.lgamma();
        case CT_CLONE: return a.clone();
        case CT_DETACH: return a.detach();
        case CT_SIGN: return a.sign();
        default: TORCH_CHECK(false, "unknown operation ", op);
        }
    });
}

ct_tensor ct_apply_binary(int32_t op, ct_tensor left, ct_tensor right) {
    return make([&]() -> at::Tensor {
        const auto &a = get(left), &b = get(right);
        switch (op) {
        case CT_ADD: return a + b;
        case CT_SUB: return a - b;
        case CT_MUL: return a * b;
        case CT_DIV: return a / b;
        case CT_MAXIMUM: return at::maximum(a, b);
        case CT_MINIMUM: return at::minimum(a, b);
        case CT_POW: return a.pow(b);
        case CT_MATMUL: return a.matmul(b);
        case CT_EQUAL: return a.eq(b);
        case CT_LESS: return a.lt(b);
        default: TORCH_CHECK(false, "unknown operation ", op);
        }
    });
}

ct_tensor ct_apply_scalar(int32_t op, ct_tensor handle, double b) {
    return make([&]() -> at::Tensor {
        const auto &a = get(handle);
        switch (op) {
        case CT_ADD: return a + b;
        case CT_SUB: return a - b;
        case CT_MUL: return a * b;
        case CT_DIV: return a / b;
        case CT_MAXIMUM: return a.clamp_min(b);
        case CT_MINIMUM: return a.clamp_max(b);
        case CT_POW: return a.pow(b);
        case CT_EQUAL: return a.eq(b);
        case CT_LESS: return a.lt(b);
        default: TORCH_CHECK(false, "unknown operation ", op);
        }
    });
}

ct_tensor ct_apply_reduce(int32_t op, ct_tensor handle, const int64_t *dims, int32_t count, bool keep) {
    return make([&]() -> at::Tensor {
        const auto &a = get(handle);
        std::vector<int64_t> over(dims, dims + count);
        if (over.empty())
            for (int64_t dim = 0; dim < a.dim(); ++dim) over.push_back(dim);
        switch (op) {
        case CT_SUM: return a.sum(over, keep);
        case CT_MEAN: return a.mean(over, keep);
        case CT_AMAX: return a.amax(over, keep);
        case CT_LOGSUMEXP: return a.logsumexp(over, keep);
        default: TORCH_CHECK(false, "unknown reduction ", op);
        }
    });
}

ct_tensor ct_clamp(ct_tensor a, double low, double high) {
    return make([&] { return get(a).clamp(low, high); });
}
ct_tensor ct_where(ct_tensor condition, ct_tensor a, ct_tensor b) {
    return make([&] { return at::where(get(condition), get(a), get(b)); });
}
ct_tensor ct_to_type(ct_tensor a, int32_t dtype) {
    return make([&] { return get(a).to(type(dtype)); });
}

ct_tensor ct_reshape(ct_tensor a, const int64_t *sizes, int32_t dims) {
    return make([&] { return get(a).reshape(shape(sizes, dims)); });
}
ct_tensor ct_expand(ct_tensor a, const int64_t *sizes, int32_t dims) {
    return make([&] { return get(a).expand(shape(sizes, dims)); });
}
ct_tensor ct_permute(ct_tensor a, const int64_t *order, int32_t dims) {
    return make([&] { return get(a).permute(shape(order, dims)); });
}
ct_tensor ct_narrow(ct_tensor a, int32_t dim, int64_t start, int64_t length) {
    return make([&] { return get(a).narrow(dim, start, length); });
}
ct_tensor ct_index_select(ct_tensor a, int32_t dim, ct_tensor index) {
    return make([&] { return get(a).index_select(dim, get(index)); });
}
ct_tensor ct_gather(ct_tensor a, int32_t dim, ct_tensor index) {
    return make([&] { return get(a).gather(dim, get(index)); });
}

static std::vector<at::Tensor> collect(const ct_tensor *list, int32_t count) {
    std::vector<at::Tensor> result;
    for (int32_t index = 0; index < count; ++index) result.push_back(get(list[index]));
    return result;
}

ct_tensor ct_concatenate(const ct_tensor *list, int32_t count, int32_t dim) {
    return make([&] { return at::cat(collect(list, count), dim); });
}
ct_tensor ct_stack(const ct_tensor *list, int32_t count, int32_t dim) {
    return make([&] { return at::stack(collect(list, count), dim); });
}
ct_tensor ct_argmax(ct_tensor a, int32_t dim) {
    return make([&] { return get(a).argmax(dim); });
}
ct_tensor ct_kth_largest(ct_tensor a, int64_t k) {
    return make([&] { return std::get<0>(get(a).topk(k)).narrow(-1, k - 1, 1); });
}
ct_tensor ct_one_hot(ct_tensor index, int64_t classes) {
    return make([&] { return at::one_hot(get(index), classes); });
}
ct_tensor ct_softmax(ct_tensor a, int32_t dim, bool log) {
    return make([&] { return log ? get(a).log_softmax(dim) : get(a).softmax(dim); });
}

ct_tensor ct_linear(ct_tensor x, ct_tensor weight, ct_tensor bias) {
    return make([&]() -> at::Tensor {
        const auto &input = get(x), &w = get(weight);
        // One row is a matrix times a vector; a general product would first copy the whole weight into another order.
        if (input.dim() == 2 && input.size(0) == 1 && !at::GradMode::is_enabled())
            return (bias ? at::addmv(get(bias), w, input[0]) : at::mv(w, input[0])).unsqueeze(0);
        return at::linear(input, w, maybe(bias));
    });
}
ct_tensor ct_conv2d(ct_tensor x, ct_tensor weight, ct_tensor bias, int64_t stride, int64_t padding, int64_t groups) {
    return make([&] { return at::conv2d(get(x), get(weight), maybe(bias), {stride, stride}, {padding, padding}, {1, 1}, groups); });
}
ct_tensor ct_max_pool2d(ct_tensor x, int64_t size, int64_t stride) {
    return make([&] { return at::max_pool2d(get(x), {size, size}, {stride, stride}); });
}
ct_tensor ct_average_pool2d(ct_tensor x, int64_t size, int64_t stride) {
    return make([&] { return at::avg_pool2d(get(x), {size, size}, {stride, stride}); });
}
ct_tensor ct_unfold2d(ct_tensor x, int64_t size, int64_t stride, int64_t padding) {
    return make([&] { return at::im2col(get(x), {size, size}, {1, 1}, {padding, padding}, {stride, stride}); });
}
ct_tensor ct_batch_norm(ct_tensor x, ct_tensor gamma, ct_tensor beta, ct_tensor mean, ct_tensor variance, double epsilon) {
    return make([&] {
        const bool own = mean == nullptr || variance == nullptr;
        return at::batch_norm(get(x), get(gamma), get(beta), own ? c10::nullopt : maybe(mean), own ? c10::nullopt : maybe(variance), own, 0.0, epsilon, false);
    });
}
ct_tensor ct_cross_entropy(ct_tensor logits, ct_tensor targets, int32_t reduction) {
    return make([&] { return at::cross_entropy_loss(get(logits), get(targets), {}, reduction); });
}
ct_tensor ct_binary_cross_entropy(ct_tensor logits, ct_tensor targets, int32_t reduction) {
    return make([&] { return at::binary_cross_entropy_with_logits(get(logits), get(targets), {}, {}, reduction); });
}
}
