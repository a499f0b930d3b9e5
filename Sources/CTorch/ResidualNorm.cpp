// Batch norms of residual units, fused with what follows them, as operations with their own gradients: statistics, norm and ReLU; or norm, mix of a set of
// units by shares that each picture has of its own, sum with what the units were applied to, and ReLU.
//
// Ioffe & Szegedy 2015 (arXiv 1502.03167); libtorch's own operations pass over memory four times as often. Where a channel has gradient d at its norm's
// output, with n its normalised input over P positions: the input's is slope · (d − mean d − n · mean(d n)), the scale's Σ d n, the shift's Σ d.
#include "Failure.hpp"
#include "Kernels/Kernels.hpp"
#include <torch/csrc/autograd/custom_function.h>

using namespace ct;

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor channelsLast(const at::Tensor &a) { return a.contiguous(at::MemoryFormat::ChannelsLast); }

NormGeometry geometry(const at::Tensor &z, int64_t units) {
    TORCH_CHECK(z.dim() == 4 && z.size(1) % units == 0, "pictures of shape ", z.sizes(), " are not of ", units, " units");
    return {z.size(0), z.size(2) * z.size(3), z.size(1) / units, units};
}

// A batch's statistics with scale and shift: rows slope, offset, inverse deviation, centre.
at::Tensor statistics(const NormGeometry &g, const at::Tensor &z, const at::Tensor &scale, const at::Tensor &shift, double epsilon) {
    const auto width = g.width();
    std::vector<double> mean(static_cast<size_t>(width)), squares(static_cast<size_t>(width));
    kernels().channelMoments(g, z.data_ptr<float>(), mean.data(), squares.data());
    auto rows = at::empty({4, width}, at::kFloat);
    float *out = rows.data_ptr<float>();
    const auto scales = scale.contiguous(), shifts = shift.contiguous();
    for (int64_t k = 0; k < width; ++k) {
        const double variance = squares[static_cast<size_t>(k)] / static_cast<double>(g.rows * g.area), inverse = 1 / std::sqrt(variance + epsilon);
        const double slope = static_cast<double>(scales.data_ptr<float>()[k]) * inverse;
        out[k] = static_cast<float>(slope);
        out[width + k] = static_cast<float>(static_cast<double>(shifts.data_ptr<float>()[k]) - mean[static_cast<size_t>(k)] * slope);
        out[2 * width + k] = static_cast<float>(inverse);
        out[3 * width + k] = static_cast<float>(mean[static_cast<size_t>(k)]);
    }
    return rows;
}

Norm view(const at::Tensor &rows) {
    const float *at = rows.data_ptr<float>();
    const auto width = rows.size(1);
    return {at, at + width, at + 2 * width, at + 3 * width};
}

// Sums over positions as means, and as the gradients by shift and scale.
struct Sums {
    std::vector<double> sums, products;
    at::Tensor byShift, byScale, means;
    explicit Sums(int64_t width) : sums(static_cast<size_t>(width)), products(static_cast<size_t>(width)) {}

    void finish(const NormGeometry &g) {
        const auto width = g.width();
        byShift = at::empty({width}, at::kFloat), byScale = at::empty({width}, at::kFloat), means = at::empty({2, width}, at::kFloat);
        for (int64_t k = 0; k < width; ++k) {
            const double sum = sums[static_cast<size_t>(k)], product = products[static_cast<size_t>(k)], count = static_cast<double>(g.rows * g.area);
            byShift.data_ptr<float>()[k] = static_cast<float>(sum);
            byScale.data_ptr<float>()[k] = static_cast<float>(product);
            means.data_ptr<float>()[k] = static_cast<float>(sum / count);
            means.data_ptr<float>()[width + k] = static_cast<float>(product / count);
        }
    }
    const float *mean() const { return means.data_ptr<float>(); }
    const float *meanProduct() const { return means.data_ptr<float>() + means.size(1); }
};

struct NormRelu : torch::autograd::Function<NormRelu> {
    static at::Tensor forward(AutogradContext *context, const at::Tensor &input, const at::Tensor &scale, const at::Tensor &shift, double epsilon) {
        const auto z = channelsLast(input);
        const auto g = geometry(z, 1);
        const auto rows = statistics(g, z, scale, shift, epsilon);
        auto out = at::empty_like(z);
        kernels().normRelu(g, view(rows), z.data_ptr<float>(), out.data_ptr<float>());
        context->save_for_backward({z, rows});
        return out;
    }

    static variable_list backward(AutogradContext *context, variable_list slopes) {
        const auto saved = context->get_saved_variables();
        const auto &z = saved[0], &rows = saved[1];
        const auto g = geometry(z, 1);
        const auto by = channelsLast(slopes[0]);
        Sums found(g.width());
        kernels().normReluSums(g, view(rows), z.data_ptr<float>(), by.data_ptr<float>(), found.sums.data(), found.products.data());
        found.finish(g);
        auto input = at::empty_like(z);
        kernels().normReluInput(g, view(rows), z.data_ptr<float>(), by.data_ptr<float>(), found.mean(), found.meanProduct(), input.data_ptr<float>());
        return {input, found.byScale, found.byShift, {}};
    }
};

struct NormMix : torch::autograd::Function<NormMix> {
    static at::Tensor forward(
        AutogradContext *context, const at::Tensor &input, const at::Tensor &scale, const at::Tensor &shift, const at::Tensor &shares, const at::Tensor &added, double epsilon) {
        const auto z = channelsLast(input), x = channelsLast(added), r = shares.contiguous();
        const auto g = geometry(z, r.size(1));
        const auto rows = statistics(g, z, scale, shift, epsilon);
        auto out = at::empty_like(x);
        std::vector<float> room(static_cast<size_t>(g.width() + g.channels));
        kernels().normMix(g, view(rows), z.data_ptr<float>(), r.data_ptr<float>(), x.data_ptr<float>(), room.data(), out.data_ptr<float>());
        context->save_for_backward({z, rows, r, out});
        return out;
    }

    static variable_list backward(AutogradContext *context, variable_list slopes) {
        const auto saved = context->get_saved_variables();
        const auto &z = saved[0], &rows = saved[1], &r = saved[2], &out = saved[3];
        const auto g = geometry(z, r.size(1));
        const auto by = channelsLast(slopes[0]);
        Sums found(g.width());
        std::vector<float> room(static_cast<size_t>(g.width() + g.channels));
        auto byX = at::empty_like(out), byShares = at::empty_like(r), input = at::empty_like(z);
        kernels().normMixSums(
            g, view(rows), z.data_ptr<float>(), r.data_ptr<float>(), out.data_ptr<float>(), by.data_ptr<float>(), room.data(), byX.data_ptr<float>(),
            byShares.data_ptr<float>(), found.sums.data(), found.products.data());
        found.finish(g);
        kernels().normMixInput(
            g, view(rows), z.data_ptr<float>(), r.data_ptr<float>(), byX.data_ptr<float>(), found.mean(), found.meanProduct(), input.data_ptr<float>());
        return {input, found.byScale, found.byShift, byShares, byX, {}};
    }
};

bool hasKernel(std::initializer_list<at::Tensor> tensors) {
    for (const auto &a : tensors)
        if (!a.is_cpu() || a.scalar_type() != at::kFloat) return false;
    return !kernels().isReference;
}

at::Tensor batchNorm(const at::Tensor &z, const at::Tensor &scale, const at::Tensor &shift, double epsilon) {
    return at::batch_norm(z, scale, shift, {}, {}, true, 0.0, epsilon, false);
}

}  // namespace

extern "C" {

ct_tensor ct_channels_last(ct_tensor a) {
    return make([&] { return channelsLast(get(a)); });
}

ct_tensor ct_norm_relu(ct_tensor z, ct_tensor scale, ct_tensor shift, double epsilon) {
    return make([&]() -> at::Tensor {
        const auto &input = get(z), &s = get(scale), &b = get(shift);
        TORCH_CHECK(input.dim() == 4 && s.numel() == input.size(1) && b.numel() == input.size(1), "pictures ", input.sizes(), ", scale ", s.sizes(), ", shift ", b.sizes());
        return hasKernel({input, s, b}) ? NormRelu::apply(input, s, b, epsilon) : batchNorm(input, s, b, epsilon).relu();
    });
}

ct_tensor ct_norm_mix_relu(ct_tensor z, ct_tensor scale, ct_tensor shift, ct_tensor shares, ct_tensor x, double epsilon) {
    return make([&]() -> at::Tensor {
        const auto &input = get(z), &s = get(scale), &b = get(shift), &r = get(shares), &added = get(x);
        TORCH_CHECK(
            input.dim() == 4 && added.dim() == 4 && r.dim() == 2 && s.numel() == input.size(1) && b.numel() == input.size(1) && r.size(0) == input.size(0)
                && added.size(0) == input.size(0) && added.size(1) * r.size(1) == input.size(1) && added.size(2) == input.size(2) && added.size(3) == input.size(3),
            "units ", input.sizes(), ", shares ", r.sizes(), ", added to ", added.sizes());
        if (hasKernel({input, s, b, r, added})) return NormMix::apply(input, s, b, r, added, epsilon);
        const auto y = batchNorm(input, s, b, epsilon).reshape({input.size(0), r.size(1), added.size(1), input.size(2), input.size(3)});
        return (added + (y * r.reshape({r.size(0), r.size(1), 1, 1, 1})).sum(1)).relu();
    });
}

ct_tensor ct_channel_moments(ct_tensor x) {
    return make([&]() -> at::Tensor {
        const auto &input = get(x);
        TORCH_CHECK(input.dim() == 4, "pictures are needed, not ", input.sizes());
        if (!hasKernel({input})) {
            const auto wide = input.to(at::kDouble), mean = wide.mean({0, 2, 3}, true);
            return at::stack({mean.flatten(), (wide - mean).square().sum({0, 2, 3})});
        }
        const auto z = channelsLast(input.detach());
        const auto g = geometry(z, 1);
        auto out = at::empty({2, g.width()}, at::kDouble);
        kernels().channelMoments(g, z.data_ptr<float>(), out.data_ptr<double>(), out.data_ptr<double>() + g.width());
        return out;
    });
}
}
